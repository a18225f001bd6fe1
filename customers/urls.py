from django.urls import path

from customers import views

urlpatterns = [
    path("v1/customers", views.Customers.as_view(), name="customers"),
    path("v1/customers/<str:customer_id>", views.OneCustomer.as_view(), name="customer"),
]
