// Package restaurant runs the restaurant chain of deploy/examples/restaurant: guests who read
// menus and balances and order, behind a real Varnish, and the changes beside them.
package restaurant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/load"
	"github.com/walpurge/walpurge/integration/scenario/oracle"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// The sizes of seed.sql.
const (
	stores   = 2000
	dishes   = 25 // of a store
	accounts = 20_000
	orders   = 5000
)

// Scenario returns the scenario.
func Scenario() scenario.Scenario {
	const lasting = 12 * time.Second
	return scenario.Scenario{
		Name:   "restaurant",
		Who:    "A restaurant chain with 2,000 stores: menus, prices, orders, payment and loyalty points; lunch and dinner peaks, promotions.",
		Factor: 5,
		Stages: []scenario.Stage{
			{Name: "baseline", Share: 0.2, Lasting: lasting},
			{Name: "peak", Share: 0.6, Lasting: lasting},
			{Name: "2 x peak", Share: 1.2, Lasting: lasting},
		},
		Writes:     4,
		Bypass:     0.1,
		Cacheable:  []string{"menu", "store", "loyalty", "order"},
		EventStage: "peak",
		TTLs:       []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 300 * time.Second},
		Cost: scenario.CostUpdate{
			Table: "public.menu_items", Keys: stores * dishes,
			One:  "UPDATE menu_items SET price_cents = price_cents % 3000 + 10 WHERE id = $1",
			Many: "UPDATE menu_items SET price_cents = price_cents % 3000 + 10 WHERE id <= 10000",
		},
		Gate:    scenario.GateLoad{Rate: 200, Lasting: 6 * time.Second},
		Prepare: prepare,
		Start:   start,
	}
}

// prepare compiles the application from the copied files, of which some may be edited.
func prepare(ctx context.Context, b scenario.Build) error {
	if _, err := harness.FindVarnish(); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(b.Files, "app", "*.go"))
	if err != nil {
		return err
	}
	replace := map[string]string{}
	for _, file := range files {
		original, err := filepath.Abs(filepath.Join(b.Root, "deploy", "examples", "restaurant", "app", filepath.Base(file)))
		if err != nil {
			return err
		}
		replace[original] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	path := filepath.Join(b.Built, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", path, "-o", filepath.Join(b.Built, "app"), "./deploy/examples/restaurant/app")
	cmd.Dir = b.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the application: %w: %s", err, out)
	}
	return nil
}

// system is the chain's application with Varnish before it.
type system struct {
	env *scenario.Env
	app *harness.Program
	// direct is the application, front is what clients ask, varnish is empty without a cache.
	direct, front, varnish string
	db                     *pgxpool.Pool
	client                 *http.Client
	popular                *zipf
	// here are the guests who use the application now: they look at their balance, order, and look again.
	here []int
}

func start(ctx context.Context, env *scenario.Env) (scenario.System, error) {
	s := &system{env: env, client: &http.Client{Timeout: 20 * time.Second}, popular: newZipf(stores, 0.9)}
	env.Group.Add("client", func() error { s.client.CloseIdleConnections(); return nil })
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	s.direct = "http://" + addr
	s.front = s.direct
	vars := []string{"LISTEN=" + addr, "DATABASE_URL=" + env.DatabaseURL, "TIME_FACTOR=" + strconv.Itoa(env.Factor)}
	if env.Variant.Cache {
		vcl, err := os.ReadFile(filepath.Join(env.Files, "default.vcl"))
		if err != nil {
			return nil, err
		}
		varnish, err := harness.StartVarnish(ctx, harness.VarnishConfig{Dir: filepath.Join(env.Dir, "varnish"), VCL: string(vcl), Backend: addr, Nice: scenario.Nice})
		if err != nil {
			return nil, err
		}
		env.Group.Add("Varnish", varnish.Close)
		s.varnish = "http://" + varnish.Addr()
		s.front = s.varnish
		vars = append(vars, "VALKEY_ADDR="+env.Valkey.Addr(), "VARNISH_URL="+s.varnish)
		if env.Variant.TTL > 0 {
			vars = append(vars, "ONLY_TTL="+env.Variant.TTL.String())
		}
		if env.Variant.Deletes {
			vars = append(vars, "DELETES=1")
		}
	}
	s.app, err = harness.StartProgram(ctx, harness.ProgramConfig{
		Name: "app", Nice: scenario.Nice, Path: filepath.Join(env.Built, "app"), Dir: env.Dir, Env: vars,
		Ready: func(ctx context.Context) error { return s.up(ctx) },
	})
	if err != nil {
		return nil, err
	}
	env.Group.Add("application", func() error { return s.app.Close() })
	if s.db, err = pgxpool.New(ctx, env.Postgres.URL("restaurant")); err != nil {
		return nil, err
	}
	env.Group.Add("database pool", func() error { s.db.Close(); return nil })
	return s, nil
}

// up asks the application for its answer.
func (s *system) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := s.call(ctx, http.MethodGet, "/up", io.Discard)
	return err
}

// call asks the application itself.
func (s *system) call(ctx context.Context, method, path string, body io.Writer) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.direct+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(body, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Header, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return resp.Header, nil
}

// Facts has none: what this system shows is in the figures.
func (s *system) Facts(context.Context) ([]results.Fact, error) { return nil, nil }

// WalpurgeEnv is of walpurge.yaml.
func (s *system) WalpurgeEnv() []string { return []string{"VARNISH_URL=" + s.varnish} }

// Next makes a guest's next request.
func (s *system) Next(r *rand.Rand) load.Request {
	get := func(endpoint, path string, id int) load.Request {
		return load.Request{Endpoint: endpoint, Method: http.MethodGet, URL: s.front + fmt.Sprintf(path, id)}
	}
	switch n := r.IntN(100); {
	case n < 55:
		return get("menu", "/stores/%d/menu", s.popular.next(r))
	case n < 70:
		return get("store", "/stores/%d", s.popular.next(r))
	case n < 85:
		return get("loyalty", "/loyalty/%d", s.present(r))
	case n < 95:
		return get("order", "/orders/%d", s.ordered(r))
	default:
		return load.Request{Endpoint: "place order", Method: http.MethodPost, URL: fmt.Sprintf("%s/orders?store=%d&account=%d", s.front, s.popular.next(r), s.present(r))}
	}
}

// together is how many guests use the application at a time.
const together = 30

// present is the account of a guest who uses the application now; one in five comes just now, and
// takes the place of another.
func (s *system) present(r *rand.Rand) int {
	at := r.IntN(together)
	if r.IntN(5) > 0 && at < len(s.here) {
		return s.here[at]
	}
	guest := s.guest(r)
	if len(s.here) < together {
		s.here = append(s.here, guest)
	} else {
		s.here[at] = guest
	}
	return guest
}

// guest and ordered are ids of accounts and orders, some of which are busier than others.
func (s *system) guest(r *rand.Rand) int {
	return (s.popular.next(r)-1)*(accounts/stores) + r.IntN(accounts/stores) + 1
}
func (s *system) ordered(r *rand.Rand) int { return min(orders, s.popular.next(r)*2+r.IntN(2)) }

// Write changes a price, a menu, opening hours, a balance or the state of an order. Busy stores
// change more often.
func (s *system) Write(ctx context.Context, r *rand.Rand, bypass bool) ([]oracle.Commit, error) {
	item := (s.popular.next(r)-1)*dishes + r.IntN(dishes) + 1
	switch n := r.IntN(100); {
	case n < 50:
		return s.write(ctx, bypass, http.MethodPut, "/admin/items/%d/price", "item", item,
			"UPDATE menu_items SET price_cents = price_cents % 3000 + 10 WHERE id = $1 RETURNING version", "menu_items")
	case n < 65:
		return s.write(ctx, bypass, http.MethodPut, "/admin/items/%d/available", "item", item,
			"UPDATE menu_items SET available = NOT available WHERE id = $1 RETURNING version", "menu_items")
	case n < 75:
		return s.write(ctx, bypass, http.MethodPut, "/admin/stores/%d/hours", "store", s.popular.next(r),
			"UPDATE stores SET opens = CASE opens WHEN '10:00' THEN '09:00' ELSE '10:00' END WHERE id = $1 RETURNING version", "stores")
	case n < 90:
		return s.write(ctx, bypass, http.MethodPost, "/admin/accounts/%d/points", "account", s.guest(r),
			"UPDATE accounts SET points = points + 5 WHERE id = $1 RETURNING version", "accounts")
	default:
		return s.write(ctx, bypass, http.MethodPut, "/admin/orders/%d/status", "order", s.ordered(r),
			"UPDATE orders SET status = CASE status WHEN 'paid' THEN 'ready' ELSE 'paid' END WHERE id = $1 RETURNING version", "orders")
	}
}

// write changes one row, by the application or by SQL. Where the application's answer is lost, the
// row's version is read: it was committed at the latest when the answer was given up.
func (s *system) write(ctx context.Context, bypass bool, method, path, row string, id int, sql, table string) ([]oracle.Commit, error) {
	if bypass {
		var version int64
		if err := s.db.QueryRow(ctx, sql, id).Scan(&version); err != nil {
			return nil, err
		}
		return []oracle.Commit{{Version: oracle.Version{Row: fmt.Sprintf("%s:%d", row, id), Version: version}, At: time.Now()}}, nil
	}
	header, err := s.call(ctx, method, fmt.Sprintf(path, id), io.Discard)
	if err == nil {
		return scenario.Commits(header)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return s.current(ctx, row, table, id)
}

// current reads the version of a row as it is now.
func (s *system) current(ctx context.Context, row, table string, id int) ([]oracle.Commit, error) {
	var version int64
	if err := s.db.QueryRow(ctx, "SELECT version FROM "+table+" WHERE id = $1", id).Scan(&version); err != nil {
		return nil, err
	}
	return []oracle.Commit{{Version: oracle.Version{Row: fmt.Sprintf("%s:%d", row, id), Version: version}, At: time.Now()}}, nil
}

// Warm fills the caches with the menus and pages of the busiest half of the stores.
func (s *system) Warm(ctx context.Context) error {
	_, err := s.call(ctx, http.MethodPost, "/admin/warm?stores="+strconv.Itoa(stores/2), io.Discard)
	return err
}

// Event is the promotion at noon: 50,000 prices in one transaction.
func (s *system) Event(ctx context.Context) ([]oracle.Commit, error) {
	var body bytes.Buffer
	header, err := s.call(ctx, http.MethodPost, "/admin/promotion", &body)
	if err != nil {
		return nil, fmt.Errorf("promotion: %w", err)
	}
	header.Set(scenario.HeaderWrote, strings.TrimSpace(body.String()))
	return scenario.Commits(header)
}

// KillBetween changes a price and kills the application when that is committed and the delete waits:
// Valkey takes no writes meanwhile.
func (s *system) KillBetween(ctx context.Context) ([]oracle.Commit, error) {
	const item = 1 // of the busiest store
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{s.env.Valkey.Addr()}, DisableCache: true})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	before, err := s.current(ctx, "item", "menu_items", item)
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, client.B().ClientPause().Timeout(20_000).Write().Build()).Error(); err != nil {
		return nil, fmt.Errorf("pause Valkey: %w", err)
	}
	// It gets no answer.
	go func() { _, _ = s.call(ctx, http.MethodPut, fmt.Sprintf("/admin/items/%d/price", item), io.Discard) }()
	after := before
	for after[0].Version == before[0].Version && err == nil && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
		after, err = s.current(ctx, "item", "menu_items", item)
	}
	err = errors.Join(err, ctx.Err(), s.app.Kill())
	// Valkey notices that the connection is gone, so that the delete that waited there goes with it.
	time.Sleep(100 * time.Millisecond)
	err = errors.Join(err, client.Do(context.WithoutCancel(ctx), client.B().ClientUnpause().Build()).Error())
	if err != nil {
		return nil, err
	}
	return after, s.app.Restart(ctx)
}
