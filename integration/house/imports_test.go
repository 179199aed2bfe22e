package house

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/walpurge/walpurge/"

// What the table's short names stand for.
var (
	prom   = "github.com/prometheus/client_golang/"
	pgx    = "github.com/jackc/pgx/v5"
	nats   = "github.com/nats-io/nats.go"
	cel    = "cel.dev/cel-go/"
	rate   = "golang.org/x/time/rate"
	errgrp = "golang.org/x/sync/errgroup"
	unix   = "golang.org/x/sys/unix"
	aws    = "github.com/aws/aws-sdk-go-v2/"
)

// pure packages have no network, no log, no goroutine.
const pure = true

// room says what a package may import besides the standard library: packages of
// this repository by their path, others by a prefix.
type room struct {
	own    []string
	others []string
	pure   bool
}

// house is the import table of CONTRIBUTING.md. Data flows down it and imports
// point up. A package that is not in it fails the test, so that a new one is
// given its place on purpose.
var house = map[string]room{
	"cdc":                    {nil, nil, pure},
	"cdc/beat":               {nil, nil, pure},
	"cdc/condition":          {nil, nil, false},
	"cdc/failpoint":          {nil, nil, pure},
	"cdc/failpoint/seeded":   {nil, []string{"github.com/stretchr/testify/"}, false},
	"cdc/display":            {nil, nil, pure},
	"cdc/readfile":           {nil, nil, pure},
	"cdc/pgoutput":           {[]string{"cdc"}, nil, pure},
	"cdc/watermark":          {[]string{"cdc"}, nil, pure},
	"cdc/standbynames":       {nil, nil, pure},
	"cdc/shape":              {[]string{"cdc"}, nil, pure},
	"cdc/visible":            {[]string{"cdc", "cdc/condition"}, []string{pgx}, false},
	"cdc/replica":            {[]string{"cdc", "cdc/condition", "cdc/watermark"}, []string{pgx, errgrp}, false},
	"cdc/postgres/catchup":   {[]string{"cdc"}, nil, pure},
	"cdc/postgres":           {[]string{"cdc/readfile", "cdc/display", "cdc", "cdc/beat", "cdc/condition", "cdc/failpoint", "cdc/pgoutput", "cdc/postgres/catchup", "cdc/shape", "cdc/standbynames", "cdc/watermark"}, []string{pgx, "github.com/jackc/pglogrepl", errgrp, unix}, false},
	"rules/invalidation":     {[]string{"cdc"}, nil, pure},
	"rules/strictyaml":       {[]string{"cdc/display"}, []string{"github.com/goccy/go-yaml"}, pure},
	"rules":                  {[]string{"cdc/readfile", "cdc/display", "cdc", "cdc/failpoint", "rules/invalidation", "rules/strictyaml", "rules/urlvariant"}, []string{cel}, pure},
	"rules/urlvariant":       {[]string{"rules/strictyaml"}, nil, pure},
	"rules/draft":            {[]string{"cdc"}, []string{"golang.org/x/text/unicode/norm"}, pure},
	"rules/rulestest":        {[]string{"cdc/readfile", "cdc", "rules", "rules/invalidation", "rules/strictyaml"}, nil, pure},
	"router/lookup":          {[]string{"cdc", "cdc/condition", "rules"}, []string{pgx}, false},
	"router/spool":           {nil, nil, pure},
	"router":                 {[]string{"cdc", "cdc/condition", "cdc/failpoint", "router/spool", "rules", "rules/invalidation"}, []string{prom}, false},
	"router/stream":          {[]string{"cdc", "cdc/condition", "cdc/failpoint", "cdc/watermark", "rules/invalidation"}, []string{nats}, false},
	"router/stream/embedded": {[]string{"cdc/readfile", "cdc/beat", "cdc/condition", "cdc/failpoint"}, []string{nats, "github.com/nats-io/nats-server/v2/", unix}, false},
	"sinks":                  {[]string{"rules/invalidation", "rules/urlvariant", "sinks/history"}, nil, pure},
	"sinks/history":          {[]string{"rules/invalidation"}, nil, pure},
	"sinks/delivery":         {[]string{"cdc", "cdc/beat", "cdc/condition", "cdc/failpoint", "cdc/watermark", "rules/invalidation", "sinks", "sinks/delivery/machine"}, []string{prom, rate, errgrp}, false},
	"sinks/delivery/machine": {[]string{"cdc", "rules/invalidation", "sinks"}, nil, pure},
	"sinks/sinktest":         {[]string{"rules/invalidation", "sinks", "sinks/history"}, []string{"github.com/stretchr/testify/", "go.uber.org/goleak", "pgregory.net/rapid"}, false},
	"sinks/valkey":           {[]string{"cdc/readfile", "cdc/condition", "rules/invalidation", "sinks", "sinks/history"}, []string{"github.com/valkey-io/valkey-go", rate}, false},
	"sinks/httpsink":         {[]string{"cdc/readfile", "cdc/display", "rules/invalidation", "sinks"}, nil, false},
	"sinks/bunny":            {[]string{"rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink", "sinks/history"}, nil, false},
	"sinks/fastly":           {[]string{"rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink", "sinks/history"}, nil, false},
	"sinks/cloudflare":       {[]string{"rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink", "sinks/history"}, []string{"github.com/cloudflare/cloudflare-go/v7/cache", "github.com/cloudflare/cloudflare-go/v7/option"}, false},
	"sinks/cloudfront":       {[]string{"rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink", "sinks/history"}, []string{aws + "aws", aws + "config", aws + "service/cloudfront", "github.com/aws/smithy-go"}, false},
	"sinks/varnish":          {[]string{"rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink", "sinks/history"}, nil, false},
	"sinks/webhook":          {[]string{"cdc/display", "rules/invalidation", "sinks", "sinks/httpsink", "sinks/history"}, []string{cel, "google.golang.org/protobuf/types/known/structpb"}, false},
	"sinks/warm":             {[]string{"cdc", "cdc/beat", "cdc/condition", "rules/invalidation", "rules/urlvariant", "sinks", "sinks/httpsink"}, []string{prom, rate}, false},
	"cmd/config": {[]string{
		"cdc/readfile", "cdc/display",
		"cdc/postgres", "cdc/watermark", "rules", "rules/invalidation", "rules/urlvariant", "rules/strictyaml", "sinks", "sinks/bunny", "sinks/cloudflare", "sinks/cloudfront", "sinks/fastly", "sinks/valkey", "sinks/varnish", "sinks/warm", "sinks/webhook",
	}, nil, pure},
	"cmd/plural":    {nil, nil, pure},
	"cmd/admin":     {[]string{"cdc/readfile", "cdc/display", "cdc", "cmd/plural", "rules/invalidation"}, []string{prom}, false},
	"cmd/filewatch": {[]string{"cdc/readfile", "cdc/condition"}, []string{"github.com/fsnotify/fsnotify"}, false},
	"cmd/status":    {[]string{"cdc", "cdc/postgres", "cmd/plural", "rules", "rules/invalidation", "sinks", "sinks/delivery"}, nil, pure},
	"cmd/app": {[]string{
		"cdc/readfile", "cdc/display",
		"cdc", "cdc/beat", "cdc/condition", "cdc/postgres", "cdc/replica", "cdc/visible", "cdc/watermark", "cmd/admin", "cmd/config", "cmd/filewatch", "cmd/plural", "cmd/status", "router", "router/lookup", "router/spool", "router/stream", "router/stream/embedded", "rules", "rules/invalidation", "rules/urlvariant", "rules/draft", "rules/rulestest", "rules/strictyaml", "sinks", "sinks/delivery", "sinks/history", "sinks/valkey", "sinks/varnish", "sinks/warm", "sinks/webhook",
	}, []string{pgx, nats, "github.com/nats-io/nkeys", prom, errgrp, unix}, false},
	"cmd/bench":                       {[]string{"cdc", "cmd/app", "cmd/config", "cmd/plural", "router/stream", "rules/invalidation"}, []string{pgx, nats}, false},
	"cmd/tracing":                     {[]string{"cdc/readfile", "cdc/display", "cdc", "cdc/condition"}, []string{"go.opentelemetry.io/otel/", "go.opentelemetry.io/proto/otlp/trace/v1", "google.golang.org/protobuf/proto"}, false},
	"cmd/systemd":                     {[]string{"cdc/condition"}, []string{unix}, false},
	"cmd/kubernetes":                  {[]string{"cdc/readfile", "cdc/condition"}, nil, false},
	"cmd/cli":                         {[]string{"cdc/readfile", "cdc/display", "cdc", "cdc/postgres", "cmd/admin", "cmd/app", "cmd/bench", "cmd/config", "cmd/kubernetes", "cmd/plural", "cmd/status", "cmd/systemd", "cmd/tracing", "integration/demo", "router/stream", "rules", "rules/invalidation", "rules/draft", "rules/rulestest", "rules/strictyaml", "sinks/warm"}, []string{"github.com/spf13/cobra"}, false},
	"cmd/walpurge":                    {[]string{"cmd/cli"}, nil, false},
	"deploy/examples/shop":            {nil, nil, pure},
	"deploy/examples/restaurant/app":  {nil, []string{pgx, "github.com/valkey-io/valkey-go", "golang.org/x/sync/singleflight"}, false},
	"deploy/release":                  {[]string{"cmd/cli"}, []string{"github.com/spf13/cobra/doc"}, false},
	"integration":                     {nil, nil, false},
	"integration/bench":               {[]string{"cdc", "cdc/postgres", "cdc/postgres/catchup", "cdc/watermark", "integration/harness"}, []string{pgx, "github.com/valkey-io/valkey-go"}, false},
	"integration/bench/drainbench":    {[]string{"integration/bench"}, nil, false},
	"integration/house":               {nil, nil, false},
	"integration/scenario":            {[]string{"integration/harness", "integration/scenario/load", "integration/scenario/oracle", "integration/scenario/results"}, []string{pgx, "github.com/valkey-io/valkey-go"}, false},
	"integration/scenario/load":       {nil, nil, false},
	"integration/scenario/dashboard":  {[]string{"integration/harness", "integration/scenario", "integration/scenario/load", "integration/scenario/oracle", "integration/scenario/results"}, []string{pgx, "github.com/valkey-io/valkey-go"}, false},
	"integration/scenario/restaurant": {[]string{"integration/harness", "integration/scenario", "integration/scenario/load", "integration/scenario/oracle", "integration/scenario/results"}, []string{pgx, "github.com/valkey-io/valkey-go"}, false},
	"integration/scenario/storefront": {[]string{"integration/harness", "integration/harness/edge", "integration/scenario", "integration/scenario/load", "integration/scenario/oracle", "integration/scenario/results", "rules"}, []string{pgx, "github.com/valkey-io/valkey-go", "go.opentelemetry.io/proto/otlp/trace/v1", "google.golang.org/protobuf/proto"}, false},
	"integration/scenario/run":        {[]string{"integration/scenario", "integration/scenario/dashboard", "integration/scenario/restaurant", "integration/scenario/results", "integration/scenario/storefront"}, nil, false},
	"integration/scenario/oracle":     {nil, nil, pure},
	"integration/scenario/results":    {[]string{"integration/scenario/oracle"}, nil, pure},
	"integration/schemas":             {nil, nil, false},
	"integration/simulate":            {nil, nil, false},
	"integration/harness":             {nil, []string{pgx, unix}, false},
	"integration/harness/edge":        {nil, []string{rate}, false},
	"integration/demo": {[]string{
		"cmd/app", "cmd/config", "cmd/plural", "deploy/examples/shop", "integration/harness", "integration/harness/edge", "router/stream", "rules/invalidation", "sinks/cloudflare",
	}, []string{pgx, nats, "github.com/valkey-io/valkey-go"}, false},
}

// impure are the parts of the standard library that pure packages do without.
var impure = []string{"net", "net/http", "os/exec", "os/signal", "log"}

func imports(s source) []string {
	var out []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (r room) allows(imported string) bool {
	if own, ok := strings.CutPrefix(imported, module); ok {
		return slices.Contains(r.own, own)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return !r.pure || !slices.Contains(impure, imported)
	}
	return slices.ContainsFunc(r.others, func(prefix string) bool {
		return imported == prefix || strings.HasPrefix(imported, strings.TrimSuffix(prefix, "/")+"/")
	})
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		seen[s.pkg()] = true
		r, known := house[s.pkg()]
		if !known {
			t.Errorf("%s: package %s has no place in the import table; give it one in integration/house and CONTRIBUTING.md", s.name, s.pkg())
			continue
		}
		for _, imported := range imports(s) {
			if !r.allows(imported) {
				t.Errorf("%s imports %s, which package %s may not; move the code, or change the table on purpose", s.name, imported, s.pkg())
			}
		}
	}
	for pkg := range house {
		if !seen[pkg] {
			t.Errorf("the import table has package %s, which does not exist", pkg)
		}
	}
}

// Pure packages start no goroutine: whoever calls them decides that.
func TestPurePackagesStartNothing(t *testing.T) {
	for _, s := range sources(t) {
		if !house[s.pkg()].pure {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d: package %s starts a goroutine", s.name, s.line(g), s.pkg())
			}
			return true
		})
	}
}

// The binary holds no test kit.
func TestNoTestKitInTheBinary(t *testing.T) {
	byPackage := map[string][]source{}
	for _, s := range sources(t) {
		byPackage[s.pkg()] = append(byPackage[s.pkg()], s)
	}
	kits := []string{"testing", "testing/", "github.com/stretchr/", "go.uber.org/goleak", "pgregory.net/rapid", module + "sinks/sinktest", module + "cdc/failpoint/seeded"}
	seen := map[string]bool{}
	var walk func(pkg string)
	walk = func(pkg string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, s := range byPackage[pkg] {
			for _, imported := range imports(s) {
				if slices.ContainsFunc(kits, func(kit string) bool {
					return imported == kit || strings.HasSuffix(kit, "/") && strings.HasPrefix(imported, kit)
				}) {
					t.Errorf("%s imports %s, and is linked into the binary", s.name, imported)
				}
				if own, ok := strings.CutPrefix(imported, module); ok {
					walk(path.Clean(own))
				}
			}
		}
	}
	walk("cmd/walpurge")
	require.True(t, seen["sinks/valkey"], "the walk from cmd/walpurge did not get far: %v", seen)
}

// A sink speaks of invalidations and links no rule engine. Only webhook has expressions of its own.
func TestSinksReachNoExpressions(t *testing.T) {
	direct := map[string][]string{}
	for _, s := range sources(t) {
		direct[s.pkg()] = append(direct[s.pkg()], imports(s)...)
	}
	var reaches func(pkg string, seen map[string]bool) []string
	reaches = func(pkg string, seen map[string]bool) []string {
		seen[pkg] = true
		for _, imported := range direct[pkg] {
			own, ok := strings.CutPrefix(imported, module)
			switch {
			case strings.HasPrefix(imported, cel):
				return []string{pkg, imported}
			case ok && !seen[own]:
				if way := reaches(own, seen); way != nil {
					return append([]string{pkg}, way...)
				}
			}
		}
		return nil
	}
	for pkg := range direct {
		if !strings.HasPrefix(pkg, "sinks") && pkg != "router/stream" {
			continue
		}
		way := reaches(pkg, map[string]bool{})
		if pkg == "sinks/webhook" {
			require.NotEmpty(t, way, "the walk did not get far")
			continue
		}
		require.Empty(t, way, "package %s links CEL", pkg)
	}
}

// CONTRIBUTING.md shows the packages of the table, and no others.
func TestContributingShowsTheTable(t *testing.T) {
	text := read(t, "CONTRIBUTING.md")
	for pkg := range house {
		if !strings.Contains(text, "| `"+pkg+"` |") {
			t.Errorf("CONTRIBUTING.md: the import table lacks package %s", pkg)
		}
	}
	for _, cells := range rows(text, "Package", "May import") {
		pkg := strings.Trim(cells[0], "`")
		if _, known := house[pkg]; !known {
			t.Errorf("CONTRIBUTING.md: the import table has %s, which is no package", pkg)
		}
	}
}
