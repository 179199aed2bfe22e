package webhook

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `webhook:` block of a sink.
type Config struct {
	// URL is where requests go.
	URL string `yaml:"url"`
	// TLS is for servers whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Method is POST, PUT, PATCH or DELETE.
	Method string `yaml:"method"`
	// Headers are sent with every request.
	Headers map[string]string `yaml:"headers"`
	// JSON is a CEL expression that makes the body; empty for the fixed form.
	JSON string `yaml:"-"`
	// HMACFile holds the secret that requests are signed with. It is read again
	// for every request.
	HMACFile string `yaml:"hmac_file"`
	// Timeout bounds one request, its answer included.
	Timeout time.Duration `yaml:"timeout"`
	// AllowHTTP lets a URL of another machine begin with http://.
	AllowHTTP bool `yaml:"allow_http"`
	// Hits, where it is not nil, is told how many of the values that a rule had purged existed, at most, and
	// how many did not. It is called while Purge runs.
	Hits func(rule string, existed, absent int) `yaml:"-"`
	// Pages, where it is not nil, is told of each purge by URL whether there may have been such a page.
	Pages func(url string, existed bool) `yaml:"-"`
}

// DefaultConfig returns the values of keys that the file leaves out. It is not
// valid as it stands: url has no default.
func DefaultConfig() Config {
	return Config{Method: "POST", Timeout: 10 * time.Second}
}

// maxItems bounds a body: at the longest values it has some megabytes.
const maxItems = 500

// maxTimeout keeps a lane from looking dead.
const maxTimeout = time.Minute

var (
	methods    = []string{"POST", "PUT", "PATCH", "DELETE"}
	headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	// own are the headers that the sink or HTTP itself writes.
	own = regexp.MustCompile(`(?i)^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|idempotency-key|x-walpurge-.*)$`)
)

// Validate reports every key that cannot be used, without touching the network
// or the secret's file. It repeats no value but of the expression: a URL or a
// header may hold a secret.
func (c Config) Validate() error {
	var errs []error
	if err := c.checkURL(); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if !slices.Contains(methods, c.Method) {
		errs = append(errs, errors.New("method: write one of "+strings.Join(methods, ", ")))
	}
	names := map[string]bool{}
	for _, name := range sortedKeys(c.Headers) {
		lower := strings.ToLower(name)
		switch {
		case !headerForm.MatchString(name):
			errs = append(errs, errors.New("headers: not a valid header name; write it like x-api-key"))
		case own.MatchString(name):
			errs = append(errs, fmt.Errorf("headers: %s is written by the sink itself; take it out", lower))
		case names[lower]:
			errs = append(errs, fmt.Errorf("headers: %s is there twice, case does not count; remove one", lower))
		case strings.ContainsFunc(c.Headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			errs = append(errs, fmt.Errorf("headers: the value of %s has a line break or another control character; write one line", lower))
		}
		names[lower] = true
	}
	for _, f := range CheckJSON(c.JSON) {
		errs = append(errs, fmt.Errorf("json: %s", f.Text))
	}
	if c.Timeout <= 0 || c.Timeout > maxTimeout {
		errs = append(errs, fmt.Errorf("timeout: %s; write a time above 0, at most %s", c.Timeout, maxTimeout))
	}
	return errors.Join(errs...)
}

func sortedKeys(m map[string]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c Config) checkURL() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return errors.New("write an absolute URL, such as https://shop.example/api/purge")
	case u.User != nil:
		return errors.New("no user or password belongs here; write an authorization header")
	case u.Fragment != "" || strings.Contains(c.URL, "#"):
		return errors.New("a fragment (#) is never sent; take it out")
	}
	return httpsink.CheckPlain(u, c.AllowHTTP)
}

// Where names the host. The rest of the URL may hold a secret.
func (c Config) Where() string { return display.Address(c.URL) }

// Target is the service that is called, whatever the path.
func (c Config) Target() history.Target {
	return history.Target{Kind: "webhook", Parts: map[string]string{c.Where(): c.Where()}}
}

// Kinds returns what the sink hands on: every kind that rules have, and
// everything.
func (c Config) Kinds() invalidation.KindSet {
	return invalidation.Kinds(append(invalidation.InRules(), invalidation.Everything)...)
}

// Caps returns how long values may be: as long as the stream can carry. What the service takes is
// not known here.
func (c Config) Caps() invalidation.Caps { return invalidation.Caps{} }

// Limits returns what one call may carry. Calls are not paced: the service's
// answer is the pace.
func (c Config) Limits() sinks.Limits { return sinks.Limits{Items: maxItems} }
