-- A film rental, with everything that makes a draft of rules hard.
CREATE SCHEMA "Büro";

CREATE TABLE countries (id int PRIMARY KEY, code char(2) NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE cities (id int PRIMARY KEY, name text NOT NULL, country_id int NOT NULL REFERENCES countries);
CREATE TABLE addresses (id int PRIMARY KEY, street text NOT NULL, city_id int NOT NULL REFERENCES cities, country_code char(2) REFERENCES countries (code));
ALTER TABLE addresses REPLICA IDENTITY FULL;

CREATE TABLE stores (id int PRIMARY KEY, address_id int NOT NULL REFERENCES addresses, manager_id int);
CREATE TABLE staff (id int PRIMARY KEY, name text NOT NULL, store_id int NOT NULL REFERENCES stores, settings jsonb NOT NULL DEFAULT '{}');
ALTER TABLE stores ADD FOREIGN KEY (manager_id) REFERENCES staff;
CREATE UNIQUE INDEX staff_identity ON staff (id, store_id);
ALTER TABLE staff REPLICA IDENTITY USING INDEX staff_identity;
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, store_id int NOT NULL REFERENCES stores, address_id int REFERENCES addresses);

CREATE TABLE languages (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE films (id int PRIMARY KEY, title text NOT NULL, language_id int NOT NULL REFERENCES languages,
  original_language_id int REFERENCES languages, extra jsonb);
ALTER TABLE films REPLICA IDENTITY FULL;
CREATE TABLE actors (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE film_actor (actor_id int REFERENCES actors, film_id int REFERENCES films, last_update timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (actor_id, film_id));
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL, parent_id int REFERENCES categories);
ALTER TABLE categories REPLICA IDENTITY FULL;
CREATE TABLE film_category (film_id int NOT NULL REFERENCES films, category_id int NOT NULL REFERENCES categories, PRIMARY KEY (film_id, category_id));

CREATE TABLE inventory (store_id int REFERENCES stores, shelf int, film_id int NOT NULL REFERENCES films, PRIMARY KEY (store_id, shelf));
CREATE TABLE rentals (id bigint PRIMARY KEY, rented_at timestamptz NOT NULL, shelf int NOT NULL, store_id int NOT NULL,
  customer_id bigint NOT NULL REFERENCES customers, staff_id int NOT NULL REFERENCES staff,
  FOREIGN KEY (shelf, store_id) REFERENCES inventory (shelf, store_id));
CREATE TABLE payments (id bigint, paid_at date, rental_id bigint NOT NULL REFERENCES rentals, amount numeric(6,2) NOT NULL, PRIMARY KEY (id, paid_at))
  PARTITION BY RANGE (paid_at);
CREATE TABLE payments_2026_01 PARTITION OF payments FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE payments_2026_02 PARTITION OF payments FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');

CREATE TABLE coupons (code text PRIMARY KEY, percent int NOT NULL);
CREATE TABLE "Order Items" ("Order ID" bigint, "Zeile Nr." int, "Menge {Stück}" int, "row" text REFERENCES coupons, PRIMARY KEY ("Order ID", "Zeile Nr."));
CREATE TABLE "Büro"."Kundenaufträge" ("Schlüssel ""x"" \ 'y' {z}" text PRIMARY KEY, "Kunde" bigint REFERENCES customers);
ALTER TABLE "Büro"."Kundenaufträge" REPLICA IDENTITY FULL;
CREATE TABLE "Büro".films (id int PRIMARY KEY);

-- What cannot be watched, for one reason each.
CREATE TABLE visits (at timestamptz NOT NULL, page text NOT NULL);
CREATE TABLE film_tag (film_id int REFERENCES films, coupon text REFERENCES coupons);
CREATE TABLE sessions (token text NOT NULL, data jsonb);
CREATE UNIQUE INDEX sessions_token ON sessions (token);
CREATE UNLOGGED TABLE counters (id int PRIMARY KEY, n int);
CREATE TABLE silent (id int PRIMARY KEY);
ALTER TABLE silent REPLICA IDENTITY NOTHING;
CREATE TABLE later (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE "dotted.name" (id int PRIMARY KEY);
CREATE TABLE "{braces}" (id int PRIMARY KEY);
CREATE TABLE archive (id int PRIMARY KEY, ref int NOT NULL UNIQUE);
ALTER TABLE archive REPLICA IDENTITY USING INDEX archive_ref_key;
CREATE TABLE events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE events_2026 REPLICA IDENTITY NOTHING;
CREATE TABLE logs (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE logs_2026 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE logs REPLICA IDENTITY FULL;
CREATE MATERIALIZED VIEW top_films AS SELECT id FROM films;
CREATE VIEW all_films AS SELECT id FROM films;
