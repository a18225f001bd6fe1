-- What is wrong with the isolation of tenants, a sentence a fault: tenants.catalogue runs it.

with tenant_table as (
    select c.oid, n.nspname || '.' || c.relname as name, c.relrowsecurity, c.relforcerowsecurity,
           c.relkind, a.attnotnull,
           coalesce(a.attname, 'id') as tenant_column,
           format('(%%s = ( SELECT slipway.current_tenant_id() AS current_tenant_id))',
                  coalesce(a.attname, 'id')) as predicate
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
select name || ' has no policy tenant_isolation as IsolateTenant makes it' from tenant_table t
where not (select relispartition from pg_class where oid = t.oid) and not exists (
  select from pg_policy p
  where p.polrelid = t.oid and p.polname = 'tenant_isolation' and p.polpermissive
    and p.polcmd = '*' and p.polroles = '{0}'
    and pg_get_expr(p.polqual, p.polrelid) = t.predicate
    and pg_get_expr(p.polwithcheck, p.polrelid) = t.predicate)
union all
select c.oid::regclass || ' has the policy ' || polname || ', which no migration of ours makes'
from pg_policy p join pg_class c on c.oid = p.polrelid
where polpermissive and polname <> 'tenant_isolation'
  and c.relname || '.' || polname <> all (%(policies)s::text[])
union all
select name || ' lacks the unique key (tenant_id, id) that others point to' from tenant_table t
where tenant_column = 'tenant_id' and relkind = 'r' and not exists (
  select from pg_constraint k where k.conrelid = t.oid and k.contype = 'u'
    and k.conname = (select relname from pg_class where oid = t.oid) || '_tenant_key')
  and not (select relispartition from pg_class where oid = t.oid)
union all
select name || ' has the unique index ' || c.relname || ' without tenant_id' from tenant_table t
join pg_index i on i.indrelid = t.oid and i.indisunique and not i.indisprimary
join pg_class c on c.oid = i.indexrelid
left join pg_attribute a on a.attrelid = t.oid and a.attname = 'tenant_id'
where (a.attnum is null or a.attnum <> all (i.indkey::int2[]))
  and c.relname <> all (%(global_keys)s::text[])
union all
select schema || '.' || tab || ' lacks the composite foreign key ' || key
from unnest(%(schemas)s::text[], %(tables)s::text[], %(keys)s::text[]) w(schema, tab, key)
where to_regclass(format('%%I.%%I', schema, tab)) is not null and not exists (
  select from pg_constraint k
  where k.conrelid = to_regclass(format('%%I.%%I', schema, tab)) and k.conname = key)
union all
select 'the app role may use ' || c.oid::regclass || ', which no migration grants'
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm') and n.nspname !~ '^(pg_|information_schema)'
  and c.relname <> all (%(granted)s::text[])
  and (has_any_column_privilege('slipway_app', c.oid, 'select, insert, update')
       or has_table_privilege('slipway_app', c.oid, 'delete'))
union all
select p.oid::regprocedure || ' is SECURITY DEFINER, and everybody may call it'
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname !~ '^(pg_|information_schema)' and (p.proacl is null or exists (
  select from aclexplode(p.proacl) a where a.grantee = 0 and a.privilege_type = 'EXECUTE'))
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
where provolatile = 'i' and prosrc ilike '%%current_setting%%'
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
