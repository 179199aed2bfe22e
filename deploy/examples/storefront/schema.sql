-- The storefront: merchants, categories that all merchants share, and products.
--
-- Each row and each listing has a version, so that a response can say what it shows and a
-- test can say whether that was current. Versions come from one sequence. A team that does
-- not test in this way needs neither the columns nor the triggers.

CREATE ROLE app LOGIN;
-- It asks the primary how far the replicas are, too.
CREATE ROLE walpurge LOGIN REPLICATION;

CREATE SEQUENCE versions;

-- The row lock is held when a BEFORE trigger runs, so the versions of a row rise in the order
-- of its commits. A statement that changes nothing, such as those of the import, keeps it.
CREATE FUNCTION next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW IS DISTINCT FROM OLD THEN
        NEW.version := nextval('versions');
    END IF;
    RETURN NEW;
END $$;

CREATE TABLE merchants (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    version bigint NOT NULL DEFAULT 0
);
-- The rules purge by the primary key, which is the default identity.

CREATE TABLE categories (
    id   bigint PRIMARY KEY CHECK (id > 0),
    name text NOT NULL
);

CREATE TABLE products (
    id          bigint PRIMARY KEY,
    merchant_id bigint NOT NULL REFERENCES merchants,
    category_id bigint NOT NULL REFERENCES categories,
    title       text NOT NULL,
    description text NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents >= 0),
    stock       integer NOT NULL DEFAULT 0,
    rank        integer NOT NULL DEFAULT 0,
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('draft', 'active', 'retired')),
    version     bigint NOT NULL DEFAULT 0
);
CREATE INDEX products_listing ON products (merchant_id, status, rank, id);
-- The rules ask which columns changed, and a product that moves to another merchant or category
-- leaves the listings of the old one: they need the whole old row.
ALTER TABLE products REPLICA IDENTITY FULL;

-- The versions of listings: a merchant's products in one category, or in all (category 0). One
-- is raised when products enter or leave the listing or change places in it.
CREATE TABLE listings (
    merchant_id bigint NOT NULL,
    category_id bigint NOT NULL,
    version     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (merchant_id, category_id)
);

CREATE TRIGGER version BEFORE INSERT OR UPDATE ON merchants FOR EACH ROW EXECUTE FUNCTION next_version();
CREATE TRIGGER version BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION next_version();

CREATE FUNCTION raise_listing(merchant bigint, category bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO listings (merchant_id, category_id, version)
    SELECT merchant, c, nextval('versions') FROM unnest(ARRAY[0, category]) AS c
    ON CONFLICT (merchant_id, category_id) DO UPDATE SET version = nextval('versions')
$$;

CREATE FUNCTION raise_listings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.merchant_id, NEW.category_id, NEW.rank, NEW.status) IS NOT DISTINCT FROM (OLD.merchant_id, OLD.category_id, OLD.rank, OLD.status) THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM raise_listing(OLD.merchant_id, OLD.category_id);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM raise_listing(NEW.merchant_id, NEW.category_id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER listings AFTER INSERT OR UPDATE OR DELETE ON products FOR EACH ROW EXECUTE FUNCTION raise_listings();

GRANT USAGE ON SEQUENCE versions TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON merchants, categories, products, listings TO app;
GRANT SELECT ON merchants, products TO walpurge;
