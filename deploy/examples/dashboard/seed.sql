-- 200 accounts with 600 orders of the last 30 days and ten users each, of whom nine have saved preferences.
INSERT INTO accounts (id, name, currency) SELECT i, 'Account ' || i, 'EUR' FROM generate_series(1, 200) i;
INSERT INTO users (id, account_id) SELECT i, (i - 1) / 10 + 1 FROM generate_series(1, 2000) i;
INSERT INTO preferences (user_id, theme, widgets)
  SELECT id, 'light', '["revenue", "orders", "refunds"]' FROM users WHERE id % 10 > 0;
INSERT INTO books (account_id) SELECT id FROM accounts;
INSERT INTO presence (account_id, online) SELECT id, id % 20 FROM accounts;
ALTER TABLE orders DISABLE TRIGGER order_changed;
INSERT INTO orders (account_id, placed_on, amount_cents, status)
  SELECT i % 200 + 1, current_date - i / 200 % 30, 500 + i % 9500, CASE WHEN i % 9 = 0 THEN 'open' ELSE 'paid' END
  FROM generate_series(0, 119999) i;
ALTER TABLE orders ENABLE TRIGGER order_changed;
