package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
)

// catalogOf is what rules are checked against: what the database says of tables.
func catalogOf(infos map[cdc.Table]*postgres.TableInfo) *rules.Catalog {
	tables := make([]rules.CatalogTable, 0, len(infos))
	for _, info := range infos {
		t := rules.CatalogTable{Table: info.Table, Identity: info.Identity, Index: info.IdentityIndex}
		for _, col := range info.Columns {
			t.Columns = append(t.Columns, rules.CatalogColumn{
				Name: col.Name, Type: col.Type, Base: col.Base, OID: col.DataType.OID, Enum: enum(&col.DataType), NotNull: col.NotNull, Identity: col.Identity, Toastable: col.Toastable,
				Generated: col.Generated && !col.Carried,
			})
		}
		tables = append(tables, t)
	}
	return rules.NewCatalog(tables)
}

// enum reports that values, or the elements of arrays, are labels of an enum.
func enum(t *cdc.DataType) bool { return t.Enum || t.Elem != nil && enum(t.Elem) }

// LiveCatalog reads from the database what there is to know of the tables. One
// that does not exist is an error.
func LiveCatalog(ctx context.Context, cfg postgres.Config, tables []cdc.Table) (*rules.Catalog, error) {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	infos, err := postgres.Inspect(ctx, conn, cfg.Publication, tables)
	if err != nil {
		return nil, err
	}
	return catalogOf(infos), nil
}

// LockPath is where the lock file of a configuration is: beside it.
func LockPath(cfg *config.Config) string {
	return filepath.Join(filepath.Dir(cfg.File), rules.LockFile)
}

// Locked reads the lock file beside the configuration; nil if there is none.
func Locked(cfg *config.Config) (*rules.Catalog, error) {
	catalog, err := rules.LoadCatalog(LockPath(cfg))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return catalog, err
}
