"""What operators type about operators."""

from django import forms

from console.roles import Role


class TokenForm(forms.Form):
    """A code of the authenticator, or a recovery code."""

    token = forms.CharField(
        max_length=20,
        label="Code",
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "inputmode": "text"}
        ),
    )


class ReasonForm(forms.Form):
    """Why: the audit trail keeps it."""

    reason = forms.CharField(max_length=500, label="Reason", widget=forms.TextInput)


class RoleForm(ReasonForm):
    role = forms.ChoiceField(choices=[(role.value, role.value) for role in Role])


class AddForm(RoleForm):
    email = forms.EmailField(max_length=254, label="E-mail address")
    name = forms.CharField(max_length=100, required=False)

    field_order = ("email", "name", "role", "reason")
