-- What is wrong with the isolation of tenants, a sentence a fault: tenants.catalogue runs it.

with tenant_table as (
    select c.oid, n.nspname || '.' || c.relname as name, c.relrowsecurity, c.relforcerowsecurity,
           c.relkind, a.attnotnull,
           coalesce(a.attname, 'id') as tenant_column
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a
        on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where c.relkind in ('r', 'p') and (n.nspname in ('public', 'pool') or n.nspname ~ '^t_[0-9]+$')
      and (a.attname is not null or c.relname = 'tenants_tenant')
)
select name || ' does not force row-level security' from tenant_table t
where not (relrowsecurity and relforcerowsecurity)
  and not (select relispartition from pg_class where oid = t.oid)
union all
select name || ' has no policy tenant_isolation of ours' from tenant_table t
where not (select relispartition from pg_class where oid = t.oid) and not exists (
  select from pg_policy p where p.polrelid = t.oid and p.polcmd in ('*', 'r')
  and pg_get_expr(p.polqual, p.polrelid) like '%current_tenant_id()%')
union all
select name || ' has the policy ' || polname || ', which lets every row pass'
from tenant_table t join pg_policy p on p.polrelid = t.oid
where pg_get_expr(p.polqual, p.polrelid) = 'true'
  and (polroles = '{0}' or 'slipway_app'::regrole = any(polroles))
union all
select name || ' is a partition that the app role may use past its parent''s policy'
from tenant_table t join pg_class c on c.oid = t.oid where c.relispartition
  and has_table_privilege('slipway_app', c.oid, 'select, insert, update, delete')
union all
select conrelid::regclass || ' has the foreign key ' || conname || ' without tenant_id'
from pg_constraint k join tenant_table t on t.oid = k.conrelid
join tenant_table u on u.oid = k.confrelid and u.name <> 'public.tenants_tenant'
where k.contype = 'f' and k.conparentid = 0 and not exists (
  select from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'tenant_id'
  and a.attnum = any(k.conkey))
union all
select n.nspname || '.' || c.relname || ' is a view that runs as its owner'
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where (n.nspname in ('public', 'pool') or n.nspname ~ '^t_[0-9]+$')
  and (c.relkind = 'm' or c.relkind = 'v'
       and not coalesce(c.reloptions::text ~ 'security_invoker=(true|on|1)', false))
union all
select p.oid::regprocedure || ' is SECURITY DEFINER without a search_path of its own'
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname !~ '^(pg_|information_schema)' and p.proconfig is null
  and p.proname <> 'enter_tenant'
union all
select p.oid::regprocedure || ' reads a setting and is IMMUTABLE' from pg_proc p
where provolatile = 'i' and prosrc ilike '%current_setting%'
union all
select 'the app role may ' || r || ' ' || name from tenant_table t,
unnest(array['truncate', 'references', 'trigger']) r
where has_table_privilege('slipway_app', t.oid, r)
union all
select 'the app role may call set_config()'
where has_function_privilege('slipway_app', 'pg_catalog.set_config(text,text,boolean)', 'execute')
union all
select 'the app role may create in schema ' || nspname from pg_namespace
where nspname !~ '^(pg_|information_schema)' and has_schema_privilege('slipway_app', oid, 'create')
union all
select 'the app role may make temporary tables'
where has_database_privilege('slipway_app', current_database(), 'temp')
union all
select 'the app role is ' || what from pg_roles r, lateral (values
  ('a superuser', rolsuper), ('free of row-level security', rolbypassrls),
  ('a maker of roles', rolcreaterole), ('a maker of databases', rolcreatedb)) v(what, so)
where rolname = 'slipway_app' and v.so
union all
select 'the app role belongs to ' || roleid::regrole from pg_auth_members
where member = 'slipway_app'::regrole
union all
select 'the app role owns ' || oid::regclass from pg_class where relowner = 'slipway_app'::regrole
