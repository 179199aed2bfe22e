-- 2,000 stores with 25 dishes each, four options to a dish, 20,000 loyalty accounts, 5,000 orders that are being made.
INSERT INTO stores (id, name, city, opens, closes)
  SELECT i, 'Store ' || i, 'City ' || i % 300, '10:00', '23:00' FROM generate_series(1, 2000) i;
INSERT INTO menus (store_id) SELECT id FROM stores;
ALTER TABLE menu_items DISABLE TRIGGER menu_gained;
INSERT INTO menu_items (id, store_id, name, position, price_cents)
  SELECT i, (i - 1) / 25 + 1, 'Dish ' || i, (i - 1) % 25, 500 + i % 2000 FROM generate_series(1, 50000) i;
ALTER TABLE menu_items ENABLE TRIGGER menu_gained;
ALTER TABLE options DISABLE TRIGGER item_changed;
INSERT INTO options (id, item_id, name, price_cents)
  SELECT i, (i - 1) / 4 + 1, 'Option ' || i % 12, i % 4 * 50 FROM generate_series(1, 200000) i;
ALTER TABLE options ENABLE TRIGGER item_changed;
INSERT INTO accounts (id, name, points) SELECT i, 'Guest ' || i, i % 1000 FROM generate_series(1, 20000) i;
INSERT INTO orders (store_id, account_id, status, total_cents)
  SELECT i % 2000 + 1, i % 20000 + 1, 'paid', 1500 FROM generate_series(1, 5000) i;
INSERT INTO payments (order_id, amount_cents) SELECT id, total_cents FROM orders;
