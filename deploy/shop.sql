-- A small shop, for deploy/demo.
CREATE TABLE users (
  id bigint PRIMARY KEY,
  email text NOT NULL UNIQUE,
  name text NOT NULL
);
-- The key user:by-email:{email} needs the old row's e-mail address as well as the new one's.
-- The default identity (the primary key) would not tell it.
ALTER TABLE users REPLICA IDENTITY FULL;

CREATE TABLE products (
  id bigint PRIMARY KEY,
  name text NOT NULL,
  price numeric(10, 2) NOT NULL,
  stock integer NOT NULL
);

CREATE TABLE orders (
  id bigint PRIMARY KEY,
  user_id bigint NOT NULL REFERENCES users,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_items (
  order_id bigint NOT NULL REFERENCES orders,
  line_no integer NOT NULL,
  product_id bigint NOT NULL REFERENCES products,
  quantity integer NOT NULL,
  PRIMARY KEY (order_id, line_no)
);

INSERT INTO users SELECT n, 'user' || n || '@example.com', 'User ' || n FROM generate_series(1, 1000) n;
UPDATE users SET email = 'ada@example.com', name = 'Ada' WHERE id = 42;
INSERT INTO products SELECT n, 'Product ' || n, 10 + n, 100 FROM generate_series(1, 200) n;
INSERT INTO orders (id, user_id) SELECT n, 1 + n % 1000 FROM generate_series(1, 500) n;
INSERT INTO order_items
SELECT n, l, 1 + (n * 7 + l) % 200, l FROM generate_series(1, 500) n, generate_series(1, 3) l;
