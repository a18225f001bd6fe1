"""What every app's admin.py is made of: reading, paging, seeking, trying."""
