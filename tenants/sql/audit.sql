-- The audit trail only grows.

create function slipway.refuse_audit_change() returns trigger
language plpgsql
as $$
begin
    raise exception 'The audit trail is append-only: % is refused.', tg_op
        using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_append_only before update or delete on tenants_auditentry
    for each row execute function slipway.refuse_audit_change();
create trigger audit_no_truncate before truncate on tenants_auditentry
    for each statement execute function slipway.refuse_audit_change();
-- Nobody passes for an operator.
create policy no_operator on tenants_auditentry as restrictive for insert to slipway_app
    with check (actor not like 'operator:%');
revoke update, delete, truncate on tenants_auditentry from slipway_operator;
