"""Dumps a database's catalogue in the form of data/kong-postgres-schema.tsv.

    python3 schema_dump.py postgresql://kong:kong@127.0.0.1:5432/kong > schema.tsv

Seven columns: kind, table, name, detail_a..d. What a catalogue cannot say (what a function is for,
which values a seed row must have) is checked by test_migrations.py.
"""

import sys

import psycopg2

# Each gives rows of seven texts. %(schema)s: the schema's name.
QUERIES = [
    # column: type, NULL / NOT NULL, default, number
    """SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END,
              coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attnum::text
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
       LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
       WHERE c.relkind = 'r' AND c.relnamespace = %(schema)s::regnamespace
         AND a.attnum > 0 AND NOT a.attisdropped""",
    # primary_key, unique: columns
    """SELECT CASE contype WHEN 'p' THEN 'primary_key' ELSE 'unique' END, conrelid::regclass::text,
              conname,
              (SELECT string_agg(a.attname, ', ' ORDER BY k.n)
               FROM unnest(conkey) WITH ORDINALITY k(num, n)
               JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.num), '', '', ''
       FROM pg_constraint
       WHERE contype IN ('p', 'u') AND connamespace = %(schema)s::regnamespace""",
    # foreign_key: columns, referenced table (columns), ON DELETE, ON UPDATE and MATCH
    """WITH word(code, text) AS (VALUES ('a', 'NO ACTION'), ('r', 'RESTRICT'), ('c', 'CASCADE'),
                                       ('n', 'SET NULL'), ('d', 'SET DEFAULT'))
       SELECT 'foreign_key', conrelid::regclass::text, conname,
              (SELECT string_agg(a.attname, ', ' ORDER BY k.n)
               FROM unnest(conkey) WITH ORDINALITY k(num, n)
               JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.num),
              confrelid::regclass::text || ' (' ||
              (SELECT string_agg(a.attname, ', ' ORDER BY k.n)
               FROM unnest(confkey) WITH ORDINALITY k(num, n)
               JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.num) || ')',
              'ON DELETE ' || (SELECT text FROM word WHERE code = confdeltype),
              'ON UPDATE ' || (SELECT text FROM word WHERE code = confupdtype) ||
              CASE confmatchtype WHEN 's' THEN ' MATCH SIMPLE' WHEN 'f' THEN ' MATCH FULL'
                                 ELSE ' MATCH PARTIAL' END
       FROM pg_constraint WHERE contype = 'f' AND connamespace = %(schema)s::regnamespace""",
    # check and whatever else there is: none in Kong's tables
    """SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
       FROM pg_constraint
       WHERE contype NOT IN ('p', 'u', 'f', 't') AND connamespace = %(schema)s::regnamespace""",
    # index: columns or expression, method and UNIQUE, predicate, what it is for
    """SELECT 'index', i.indrelid::regclass::text, c.relname,
              (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n)
               FROM generate_series(1, i.indnkeyatts) n),
              am.amname || CASE WHEN i.indisunique THEN ' UNIQUE' ELSE '' END,
              coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
              CASE WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid
                                AND k.contype IN ('p', 'u')) THEN 'backs constraint'
                   ELSE 'plain index' END
       FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
       WHERE c.relnamespace = %(schema)s::regnamespace""",
    # trigger: timing and events, row or statement, function and argument
    r"""SELECT 'trigger', tgrelid::regclass::text, tgname,
              regexp_replace(substring(pg_get_triggerdef(oid, true)
                                       FROM '((?:BEFORE|AFTER|INSTEAD OF) .*?) ON '),
                             'INSERT OR DELETE OR (UPDATE OF .*)', 'INSERT OR \1 OR DELETE'),
              substring(pg_get_triggerdef(oid, true) FROM 'FOR EACH (?:ROW|STATEMENT)'),
              substring(pg_get_triggerdef(oid, true) FROM 'EXECUTE (?:FUNCTION|PROCEDURE) (.*)'), ''
       FROM pg_trigger
       WHERE NOT tgisinternal AND tgrelid IN
             (SELECT oid FROM pg_class WHERE relnamespace = %(schema)s::regnamespace)""",
    # function: args, what it returns
    """SELECT 'function', '', proname, '(' || pg_get_function_identity_arguments(p.oid) || ')',
              'returns ' || pg_get_function_result(p.oid) || ', ' || l.lanname || ', ' ||
              CASE p.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
              '', ''
       FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
       WHERE pronamespace = %(schema)s::regnamespace""",
    # sequence: type, start and increment
    """SELECT 'sequence', coalesce(d.refobjid::regclass::text, ''), c.relname,
              format_type(s.seqtypid, NULL),
              'start ' || s.seqstart || ' increment ' || s.seqincrement, '', ''
       FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
       LEFT JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'a' AND d.refobjsubid > 0
       WHERE c.relnamespace = %(schema)s::regnamespace""",
    # anything else with a name
    """SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                           WHEN 'p' THEN 'partitioned table' ELSE 'relation ' || relkind::text END,
              relname, '', '', '', '', ''
       FROM pg_class
       WHERE relkind NOT IN ('r', 'i', 'S', 't') AND relnamespace = %(schema)s::regnamespace""",
    """SELECT 'type', '', typname, typtype::text, '', '', '' FROM pg_type
       WHERE typtype IN ('e', 'd') AND typnamespace = %(schema)s::regnamespace""",
    # schema_meta: key, last_executed, executed, pending
    """SELECT 'schema_meta', 'schema_meta', subsystem, 'key=' || key,
              'last_executed=' || coalesce(last_executed, 'NULL'),
              'executed=' || coalesce(executed::text, 'NULL'),
              'pending=' || coalesce(pending::text, 'NULL')
       FROM {schema}.schema_meta""",
]


def dump(conn, schema="public"):
    """The rows of a database's schema, sorted."""
    rows = []
    with conn.cursor() as cur:
        cur.execute("SELECT set_config('search_path', quote_ident(%s), false), quote_ident(%s)",
                    (schema, schema))
        quoted = cur.fetchone()[1]
        for query in QUERIES:
            cur.execute(query.replace("{schema}", quoted), {"schema": quoted})
            rows += [tuple(row) for row in cur.fetchall()]
    return sorted(rows)


if __name__ == "__main__":
    with psycopg2.connect(sys.argv[1]) as connection:
        for line in dump(connection, *sys.argv[2:3]):
            print("\t".join(line))
