#!/bin/bash
# Loads the databases and makes an account that can only read them. MySQL's image runs this once,
# at the first start, or sources it where it is not executable: hence the parentheses.
(
    set -euo pipefail
    dump=${HPL_DUMP:-/hpl/databases.sql}
    export MYSQL_PWD=$MYSQL_ROOT_PASSWORD

    sql() {
        mysql --user=root --default-character-set=utf8mb4 --batch --raw --skip-column-names
    }

    if [ ! -r "$dump" ]; then
        echo "ERROR: the dump cannot be read by the account mysql: chmod a+r mends that." >&2
        exit 1
    fi

    # The benchmark's dump begins by making an account that may do anything, with a known password.
    LC_ALL=C sed -E '/^[[:space:]]*(CREATE +USER|GRANT|FLUSH +PRIVILEGES)\>/Id' "$dump" | sql

    grants=$(sql <<'SQL'
SELECT CONCAT('GRANT SELECT, SHOW VIEW ON `', REPLACE(schema_name, '_', '\\_'),
              '`.* TO ''hpl_reader''@''%'';')
FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys');
SQL
    )
    password=$(printf %s "$HPL_READER_PASSWORD" | sed "s/['\\\\]/\\\\&/g")
    # It comes last: the health check logs in as it, so a server that is half loaded is not healthy.
    sql <<< "CREATE USER 'hpl_reader'@'%' IDENTIFIED BY '$password'; $grants"
)
