from django.urls import path

from customers.views import consent, customers, erasures, exports, imports, sources

urlpatterns = [
    path("v1/customers", customers.Customers.as_view(), name="customers"),
    # Before what takes any word for an id.
    path("v1/customers/imports", imports.Imports.as_view()),
    path("v1/customers/imports/<str:import_id>", imports.OneImport.as_view()),
    path("v1/customers/imports/<str:import_id>/rejected", imports.RejectedRows.as_view()),
    path("v1/customers/exports", exports.Exports.as_view()),
    path("v1/customers/exports/<str:export_id>", exports.OneExport.as_view()),
    path("v1/customers/exports/<str:export_id>/file", exports.ExportedFile.as_view()),
    path("v1/customers/suppressions", consent.Suppressions.as_view()),
    path("v1/customers/suppressions/<str:phone>", consent.OneSuppression.as_view()),
    path("v1/customers/sources", sources.Sources.as_view()),
    path("v1/customers/sources/<str:source_id>", sources.OneSource.as_view()),
    path("v1/customers/sources/<str:source_id>/sync", sources.Pull.as_view()),
    path("v1/customers/sources/<str:source_id>/syncs", sources.Syncs.as_view()),
    path("v1/customers/sources/<str:source_id>/syncs/<str:sync_id>", sources.OneSync.as_view()),
    path(
        "v1/customers/sources/<str:source_id>/syncs/<str:sync_id>/rejected",
        sources.RejectedItems.as_view(),
    ),
    path("v1/customers/erasures/<str:erasure_id>", erasures.OneErasure.as_view()),
    path("v1/customers/<str:customer_id>", customers.OneCustomer.as_view(), name="customer"),
    path("v1/customers/<str:customer_id>/consent", consent.ConsentLog.as_view()),
    path("v1/customers/<str:customer_id>/erase", erasures.Erase.as_view()),
]
