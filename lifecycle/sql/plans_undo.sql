drop function
    slipway.change_plan(uuid, bigint, text, text, text, text, text, text),
    slipway.platform_change_plan(text, bytea, uuid, bigint, text, text, text, text, text);
