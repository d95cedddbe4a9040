-- The roles of config.example.json on the tables of deploy/shop.sql, with what they need and nothing else. An
-- administrator of the database runs it, as often as need be, and then setup, which adds what Nearside itself needs:
--
--   psql -v ON_ERROR_STOP=1 -d shop -f deploy/postgres.sql
--   nearside setup --config config.json --as postgresql://postgres@db/shop --apply
--
-- Give the roles passwords with \password, and let them in by pg_hba.conf: nearside on the primary, also for logical
-- replication, which is a line for the database and not for "replication"; shop_cache where loads run.

-- The sidecar's own role, of postgres.url. REPLICATION lets it read every change of a published table, whatever rights
-- it has on the tables themselves.
SELECT 'CREATE ROLE nearside' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nearside') \gexec
ALTER ROLE nearside LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
-- The role of postgres.loader.url, which reads what the statements of "load" name.
SELECT 'CREATE ROLE shop_cache' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_cache') \gexec
ALTER ROLE shop_cache LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

SELECT format('GRANT CONNECT ON DATABASE %I TO nearside, shop_cache', current_database()) \gexec
GRANT USAGE ON SCHEMA public TO nearside, shop_cache;

-- "load". One that reads whole rows (to_jsonb(u)) needs all of their columns.
GRANT SELECT ON users, orders TO shop_cache;
GRANT SELECT (id, sku, name, price, stock, category_id) ON products TO shop_cache;

-- "lookup" and "write" need the primary. Here postgres.loader is a replica, so they run on postgres.url; without
-- "replica": true they run as the loader's role, and these rights are shop_cache's.
GRANT SELECT (id, user_id) ON orders TO nearside;
GRANT SELECT (id), UPDATE (stock) ON products TO nearside;
GRANT SELECT (user_id, body), INSERT (user_id, body), UPDATE (body) ON carts TO nearside;

-- An application that calls nearside.invalidate itself, once setup has made it:
--   GRANT USAGE ON SCHEMA nearside TO shop_app;
