package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Options change how a file is read.
type Options struct {
	// Env looks up ${NAME}.
	Env func(name string) (string, bool)
	// Offline lets variables be missing: nothing will be connected to.
	Offline bool
	// WithoutRules leaves Rules empty, for what writes the first rules file.
	WithoutRules bool
}

// Load reads a file. Its errors are of the type strictyaml.Errors, or say that
// the file cannot be read.
func Load(path string, opts Options) (*Config, error) {
	data, err := readfile.Read(path, strictyaml.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("%w; name the file with -c", err)
	}
	return parse(path, data, opts)
}

func parse(path string, data []byte, opts Options) (*Config, error) {
	env := opts.Env
	if opts.Offline {
		env = func(name string) (string, bool) {
			if v, ok := opts.Env(name); ok {
				return v, true
			}
			return "${" + name + "}", true
		}
	}
	doc, err := strictyaml.Options{Expand: env}.Parse(path, data)
	if err != nil {
		return nil, err
	}
	raw := rawFile{
		DataDir:      "/var/lib/walpurge",
		Stream:       rawStream{MaxAge: strictyaml.Located[time.Duration]{Value: 72 * time.Hour}, MaxBytes: strictyaml.Located[strictyaml.Size]{Value: 2 << 30}},
		DrainTimeout: strictyaml.Located[time.Duration]{Value: 20 * time.Second},
		Postgres:     rawPostgres{Manage: true, Visible: true, Streaming: true, Heartbeat: strictyaml.Located[time.Duration]{Value: 10 * time.Second}},
	}
	l := &loader{file: path, offline: opts.Offline, withoutRules: opts.WithoutRules}
	l.errs.Add(path, strictyaml.Pos{}, doc.Decode(&raw))
	l.misread = len(l.errs) > 0
	cfg := l.build(&raw)
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

type loader struct {
	file    string
	offline bool

	withoutRules bool
	// misread: some values could not be read, so one that seems to be missing
	// may be one of them.
	misread bool
	errs    strictyaml.Errors
}

// missing reports a key that the file must have.
func (l *loader) missing(format string, args ...any) {
	if !l.misread {
		l.failf(strictyaml.Pos{}, format, args...)
	}
}

// unset reports that a value names a variable that is not set, which only
// an offline check lets through.
func (l *loader) unset(value string) bool { return l.offline && strings.Contains(value, "${") }

func (l *loader) failf(at strictyaml.Pos, format string, args ...any) {
	l.errs.Addf(l.file, at, format, args...)
}

// oneOf reads a word from a list, the first of which is the default.
func (l *loader) oneOf(t strictyaml.Text, key string, words ...string) string {
	if !t.Given() {
		return words[0]
	}
	if !slices.Contains(words, t.Value) {
		l.failf(t.Pos(), "%s: %s; write one of %s", key, t, strings.Join(words, ", "))
		return words[0]
	}
	return t.Value
}

// formerOwner is what cdc.Owner writes, or nothing.
var formerOwner = regexp.MustCompile(`^([0-9]+(/[0-9]+)?)?$`)

var pipelineForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (l *loader) build(raw *rawFile) *Config {
	cfg := &Config{File: l.file, Pipeline: raw.Pipeline.Value, DataDir: raw.DataDir, DrainTimeout: raw.DrainTimeout.Value}
	switch {
	case !raw.Pipeline.Given():
		l.missing("`pipeline` is missing; write `pipeline: NAME`, it names slot, publication and stream")
	case !pipelineForm.MatchString(cfg.Pipeline):
		l.failf(raw.Pipeline.Pos(), "pipeline: %s; write a lower-case letter, then up to 39 of a-z, 0-9 and _", raw.Pipeline)
		cfg.Pipeline = "" // the names derived from it would be wrong for the same reason
	}
	if cfg.DrainTimeout <= 0 {
		l.failf(raw.DrainTimeout.Pos, "drain_timeout: %s; write a time above 0", cfg.DrainTimeout)
	}
	for _, t := range raw.Retired {
		if _, is := raw.Sinks.Get(t.Value); is {
			l.failf(t.Pos(), "retired: %s is still a sink; take one of the two out", t)
		}
		cfg.Retired = append(cfg.Retired, t.Value)
	}
	cfg.Rules = l.rules(raw.Rules)
	for _, p := range raw.Rules {
		cfg.Globs = append(cfg.Globs, rules.Beside(l.file, p.Value))
	}
	l.postgres(cfg, &raw.Postgres)
	l.nats(cfg, raw.NATS)
	cfg.Stream = Stream{MaxAge: raw.Stream.MaxAge.Value, MaxBytes: int64(raw.Stream.MaxBytes.Value)}
	if cfg.Stream.MaxBytes < 1<<20 {
		l.failf(raw.Stream.MaxBytes.Pos, "stream.max_bytes: %s; write 1MiB or more", raw.Stream.MaxBytes.Value)
	}
	if cfg.Stream.MaxAge < time.Minute {
		l.failf(raw.Stream.MaxAge.Pos, "stream.max_age: %s; write 1m or more", cfg.Stream.MaxAge)
	}
	cfg.Confirm = l.confirm(raw.Stream.Confirm, cfg.NATS)
	l.sinks(cfg, raw.Sinks)
	cfg.HTTP = HTTP{Listen: "127.0.0.1:7468", TokenFile: raw.HTTP.TokenFile}
	if raw.HTTP.Listen.Given() {
		cfg.HTTP.Listen = raw.HTTP.Listen.Value
		l.listen("http.listen", raw.HTTP.Listen)
	}
	if raw.HTTP.Advertise.Given() {
		cfg.HTTP.Advertise = l.advertise(raw.HTTP.Advertise)
	}
	if err := cfg.Log.Level.UnmarshalText([]byte(l.oneOf(raw.Log.Level, "log.level", "info", "debug", "warn", "error"))); err != nil {
		cfg.Log.Level = slog.LevelInfo
	}
	cfg.Log.JSON = l.oneOf(raw.Log.Format, "log.format", "text", "json") == "json"
	return cfg
}

// rules finds the rules files; each pattern must match something.
func (l *loader) rules(patterns []strictyaml.Text) []string {
	if len(patterns) == 0 {
		l.missing("`rules` is missing; write `rules: [rules/*.yaml]`, relative to this file")
	}
	if l.withoutRules {
		return nil
	}
	files, err := rules.Files(l.file, patterns)
	l.errs.Add(l.file, strictyaml.Pos{}, err)
	return files
}

func (l *loader) postgres(cfg *Config, raw *rawPostgres) {
	pg := postgres.DefaultConfig(cfg.Pipeline)
	pg.URL, pg.PasswordFile, pg.Manage, pg.Heartbeat = raw.URL.Value, raw.PasswordFile, raw.Manage, raw.Heartbeat.Value
	pg.Streaming = raw.Streaming
	pg.MaxRetained = int64(raw.MaxRetained.Value)
	if raw.Slot != "" {
		pg.Slot = raw.Slot
	}
	if raw.Publication != "" {
		pg.Publication = raw.Publication
	}
	if n := raw.Failover; n != nil {
		if !slices.Contains([]string{"auto", "true", "false"}, n.Text) {
			l.failf(n.Pos, "postgres.failover: %s; write auto, true or false", n)
		}
		pg.Failover = n.Text != "false"
	}
	cfg.StopOnGap = l.oneOf(raw.OnGap, "postgres.on_gap", "flush", "stop") == "stop"
	if cfg.Formerly = raw.Formerly.Value; !formerOwner.MatchString(cfg.Formerly) {
		l.failf(raw.Formerly.Pos(), "postgres.formerly: write the system identifier of the database cluster, a number such as \"7430112233445566778\", "+
			"or that and the OID of the database, \"7430112233445566778/16384\"")
	}
	cfg.Visible = raw.Visible
	pg.ColumnLists = raw.ColumnLists
	l.replicas(cfg, pg, raw.Replicas)
	cfg.Postgres = pg
	if l.offline {
		pg.PasswordFile = "" // secrets are where the daemon runs
	}
	if l.unset(pg.URL) {
		pg.URL = ""
	}
	if cfg.Pipeline == "" && raw.Slot == "" {
		pg.Slot = "unnamed"
	}
	if cfg.Pipeline == "" && raw.Publication == "" {
		pg.Publication = "unnamed"
	}
	if err := pg.Validate(); err != nil {
		l.each(raw.URL.Pos(), err, pg.URL)
	}
}

// each reports joined errors one by one. What they tell of an address shows no secret already, unless they quote all of
// it; to look for parts of the address would find words of the message.
func (l *loader) each(at strictyaml.Pos, err error, address string) {
	all := []error{err}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		all = many.Unwrap()
	}
	for _, e := range all {
		text := e.Error()
		if address != "" {
			text = strings.ReplaceAll(text, address, display.Address(address))
		}
		l.failf(at, "%s", text)
	}
}

func (l *loader) nats(cfg *Config, raw *rawNATS) {
	cfg.NATS.Replicas = 1
	if raw == nil {
		return
	}
	cfg.NATS = NATS{
		URL: raw.URL.Value, Credentials: raw.Credentials, Replicas: 1, Listen: raw.Listen.Value, TokenFile: raw.TokenFile,
		CAFile: raw.TLS.CAFile, CertFile: raw.TLS.CertFile, KeyFile: raw.TLS.KeyFile,
		HandshakeFirst: raw.TLS.HandshakeFirst, NkeyFile: raw.NkeyFile, Domain: raw.Domain.Value,
	}
	l.listen("nats.listen", raw.Listen)
	if raw.Domain.Given() && strings.ContainsAny(cfg.NATS.Domain, " .*>\t") {
		l.failf(raw.Domain.Pos(), "nats.domain: %s; write the domain of the servers with JetStream, one word without dots", raw.Domain)
	}
	if raw.Credentials != "" && raw.NkeyFile != "" {
		l.missing("nats: both credentials and nkey_file; keep the one that the server knows the user by")
	}
	for server := range strings.SplitSeq(raw.URL.Value, ",") {
		// The client library quotes an address that it cannot read, with its password.
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		if u, err := url.Parse(server); !l.unset(server) && raw.URL.Value != "" && (err != nil || u.Host == "" || display.Misread(server)) {
			l.failf(raw.URL.Pos(), "nats.url is not a valid URL; write nats://HOST:PORT, several with commas, and percent-encode special characters of a password")
			break
		}
	}
	if raw.URL.Given() && raw.URL.Value == "" {
		l.failf(raw.URL.Pos(), "nats.url is empty; name the servers, or take it out for the embedded one")
	}
	if raw.URL.Given() && raw.TokenFile != "" {
		l.failf(raw.URL.Pos(), "nats.token_file is for nats.listen; with url write credentials")
	}
	if !raw.URL.Given() && (raw.Credentials != "" || raw.TLS != rawTLS{}) {
		l.missing("nats.credentials and nats.tls are for nats.url, which is not set")
	}
	if !raw.URL.Given() && (raw.NkeyFile != "" || raw.Domain.Given()) {
		l.missing("nats.nkey_file and nats.domain are for nats.url, but nats.url is not set")
	}
	if raw.Listen.Value != "" && raw.TokenFile == "" && !raw.URL.Given() {
		l.missing("nats.listen needs nats.token_file, the token of those who listen for purges")
	}
	if raw.URL.Given() && raw.Listen.Value != "" {
		l.failf(raw.URL.Pos(), "nats: both url and listen; url names a cluster, listen opens the embedded server")
	}
	if !raw.URL.Given() {
		if raw.Replicas.Value > 1 {
			l.failf(raw.Replicas.Pos, "`nats.replicas` takes a cluster (`nats.url`): the embedded server is one; take it out")
		}
		return
	}
	cfg.NATS.Replicas = 3
	if raw.Replicas.Value != 0 {
		cfg.NATS.Replicas = raw.Replicas.Value
	}
	if cfg.NATS.Replicas < 1 || cfg.NATS.Replicas > 5 {
		l.failf(raw.Replicas.Pos, "nats.replicas: %d; write 1 to 5", cfg.NATS.Replicas)
	}
}

// listen refuses an address to listen on that is not one, without a word of it: it may hold a secret by mistake.
func (l *loader) listen(key string, t strictyaml.Text) {
	if t.Value != "" && !l.unset(t.Value) && (display.Address(t.Value) != t.Value || strings.Contains(t.Value, "://") || !strings.Contains(t.Value, ":")) {
		l.failf(t.Pos(), "%s is not HOST:PORT; write it like 127.0.0.1:7468", key)
	}
}

// advertise reads the address of the listener for other machines. It refuses one that no command could call, without a
// word of it. The brackets of [10.0.0.7]:7468, which a file has that serves IPv4 and IPv6, are removed.
func (l *loader) advertise(t strictyaml.Text) string {
	if l.unset(t.Value) {
		return t.Value
	}
	address := t.Value
	if host, port, ok := strings.Cut(address, "]:"); ok && strings.HasPrefix(host, "[") && !strings.Contains(host, ":") {
		address = host[1:] + ":" + port
	}
	if !Callable(address) {
		l.failf(t.Pos(), "http.advertise: write the HOST:PORT by which other machines reach the listener, such as 10.0.0.7:7468, or the URL of a proxy before it, such as https://walpurge.example")
	}
	return address
}

// maxAddress is the longest address of a listener: a DNS name has at most 253 characters.
const maxAddress = 300

// Callable reports whether a command can call a listener at the address: HOST:PORT, or a URL with http or https and
// nothing behind the host and port. The host must name a machine.
func Callable(address string) bool {
	if len(address) > maxAddress || strings.Contains(address, ",") || display.Address(address) != address {
		return false
	}
	isURL := strings.Contains(address, "://")
	if !isURL {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Hostname() == "", u.Scheme != "http" && u.Scheme != "https", u.Port() == "0", !isURL && u.Port() == "":
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err != nil || !ip.IsUnspecified()
}

// confirm chooses the mark up to which PostgreSQL may forget: what is on our own
// disk, what a quorum of servers holds, or else only what is purged.
func (l *loader) confirm(t strictyaml.Text, nats NATS) watermark.Policy {
	purged := l.oneOf(t, "stream.confirm", "synced", "purged") == "purged"
	switch {
	case purged:
		return watermark.ConfirmSettled
	case nats.Embedded():
		return watermark.ConfirmSynced
	case nats.Replicas >= 3:
		return watermark.ConfirmPublished
	}
	return watermark.ConfirmSettled
}
