"""Who of a filter's customers gets a message, and why others do not: the one place that says so.

The preview counts by it, and the materialiser writes by it, so that what was shown is what is done.
Of customers with one number, the first by id that may be written to gets the message; where one of
them opted out, nobody does.
"""

# With each customer, whether the number is on the tenant's list.
FROM = """customers_customer c
left join customers_suppression s on s.tenant_id = c.tenant_id and s.phone = c.phone"""


def reason(missing: str) -> str:
    """SQL over FROM: a value of Skip.Reason, null for who gets a message.

    `missing` is campaigns.variables.Expression's. Only DUPLICATE_PHONE is not known from the row.
    """
    return f"""case
  when c.phone = '' then 'no_phone'
  when c.consent = 'withdrawn' then 'opted_out'
  when c.consent <> 'given' then 'no_consent'
  when exists (select from customers_customer other
               where other.tenant_id = c.tenant_id and other.phone = c.phone
                 and other.phone <> '' and other.consent = 'withdrawn') then 'opted_out'
  when s.phone is not null then 'suppressed'
  when ({missing}) is not null then 'missing_variable'
end"""
