"""How times are written (settings.FORMAT_MODULE_PATH): as logs and the API write them, in UTC."""
