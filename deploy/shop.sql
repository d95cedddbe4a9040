-- A small shop, on which config.example.json and deploy/demo work.
CREATE TABLE users (
  id bigint PRIMARY KEY,
  tenant_id integer NOT NULL,
  email text NOT NULL UNIQUE,
  name text NOT NULL,
  avatar_url text,
  password_hash text NOT NULL DEFAULT 'x'
);
-- The key user:by-email:{email} needs the old row's e-mail address as well as the new one's, and the tag of the tenant
-- the old row's tenant. The default identity (the primary key) would not tell them.
ALTER TABLE users REPLICA IDENTITY FULL;

CREATE TABLE products (
  id bigint PRIMARY KEY,
  sku text NOT NULL UNIQUE,
  category_id integer NOT NULL,
  name text NOT NULL,
  price numeric(10, 2) NOT NULL,
  stock integer NOT NULL CHECK (stock >= 0),
  status text NOT NULL DEFAULT 'live' CHECK (status IN ('draft', 'live', 'gone'))
);
ALTER TABLE products REPLICA IDENTITY FULL;

CREATE TABLE orders (
  id bigint PRIMARY KEY,
  user_id bigint NOT NULL REFERENCES users,
  created_at timestamptz NOT NULL DEFAULT now()
);
-- user:{user_id}:orders of an order that is deleted, or goes to another user.
ALTER TABLE orders REPLICA IDENTITY FULL;

CREATE TABLE carts (
  user_id bigint PRIMARY KEY REFERENCES users,
  body jsonb NOT NULL
);

CREATE SCHEMA sales;
CREATE TABLE sales.order_items (
  order_id bigint NOT NULL REFERENCES orders,
  line_no integer NOT NULL,
  product_id bigint NOT NULL REFERENCES products,
  quantity integer NOT NULL,
  PRIMARY KEY (order_id, line_no)
);

CREATE TABLE exchange_rates (
  currency text PRIMARY KEY,
  rate numeric NOT NULL
);

INSERT INTO users (id, tenant_id, email, name)
SELECT n, n % 10, 'user' || n || '@example.com', 'User ' || n FROM generate_series(1, 1000) n;
UPDATE users SET email = 'ada@example.com', name = 'Ada' WHERE id = 42;
INSERT INTO products (id, sku, category_id, name, price, stock)
SELECT n, 'sku-' || n, n % 20, 'Product ' || n, 10 + n, 100 FROM generate_series(1, 200) n;
INSERT INTO orders (id, user_id) SELECT n, 1 + n % 1000 FROM generate_series(1, 500) n;
INSERT INTO sales.order_items
SELECT n, l, 1 + (n * 7 + l) % 200, l FROM generate_series(1, 500) n, generate_series(1, 3) l;
INSERT INTO exchange_rates VALUES ('EUR', 1.08), ('GBP', 1.27);
