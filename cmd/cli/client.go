package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/readfile"
)

// daemonFlags say where the daemon is that a command talks to.
type daemonFlags struct {
	config, addr, tokenFile *string
	insecure                *bool
}

// addDaemonFlags adds -c, --addr and --token-file.
func addDaemonFlags(cmd *cobra.Command) daemonFlags {
	return daemonFlags{
		config:    configFlag(cmd),
		addr:      cmd.Flags().String("addr", "", "the daemon's address; default: WALPURGE_ADDR, else http.listen of the configuration file"),
		insecure:  cmd.Flags().Bool("insecure", false, "send the token by plain HTTP to another machine"),
		tokenFile: cmd.Flags().String("token-file", "", "file with the token; default: WALPURGE_TOKEN, else http.token_file of the configuration file"),
	}
}

// defaultAddr is http.listen's default.
const defaultAddr = "127.0.0.1:7468"

// client talks to a daemon's listener. It takes no proxy and follows no redirect: both would get the token.
type client struct {
	base, token string
	http        *http.Client
}

// errRedirect says that the address is not the daemon's own.
var errRedirect = errors.New("it redirects, and the token is sent to no other address; name the daemon's own with --addr")

func direct() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
}

// checkAddr refuses addresses that are none, and those to which the token would travel in the clear.
func (c *client) checkAddr(insecure bool) error {
	u, err := url.Parse(c.base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return usage(errors.New("--addr is not an address; write HOST:PORT, or a URL with http or https"))
	case u.User != nil:
		return usage(errors.New("--addr has a user; the token goes into --token-file or WALPURGE_TOKEN"))
	case c.token == "" || insecure || u.Scheme == "https" || u.Hostname() == "localhost":
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return usage(fmt.Errorf("the token would go to %s by plain HTTP; write https:// with a proxy that has TLS, or --insecure", u.Host))
	}
	return nil
}

// client finds address and token: flag, environment, file.
func (f daemonFlags) client(cmd *cobra.Command) (*client, error) {
	c := &client{base: *f.addr, token: os.Getenv("WALPURGE_TOKEN"), http: direct()}
	if c.base == "" {
		c.base = os.Getenv("WALPURGE_ADDR")
	}
	tokenFile := *f.tokenFile
	if c.base == "" || tokenFile == "" && c.token == "" {
		cfg, err := load(*f.config, true)
		switch {
		case err == nil:
			if c.base == "" {
				c.base = reachable(cfg.HTTP.Listen)
			}
			if tokenFile == "" && c.token == "" {
				tokenFile = cfg.HTTP.TokenFile
			}
		case cmd.Flags().Changed("config") && c.base == "":
			return nil, err
		}
	}
	if c.base == "" {
		c.base = defaultAddr
	}
	if !strings.Contains(c.base, "://") {
		c.base = "http://" + c.base
	}
	c.base = strings.TrimSuffix(c.base, "/")
	if tokenFile != "" {
		token, err := readfile.Read(tokenFile, readfile.MaxSecret)
		if err != nil {
			return nil, usage(fmt.Errorf("token file: %w", err))
		}
		c.token = strings.TrimSpace(string(token))
	}
	return c, c.checkAddr(*f.insecure)
}

// reachable turns an address to listen on into one to call.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// answerError is an answer other than 200.
type answerError struct {
	code int
	text string
}

func (e *answerError) Error() string { return e.text }

// open sends a request; body nil is a GET. The caller closes what it returns.
func (c *client) open(ctx context.Context, path string, body any) (io.ReadCloser, error) {
	method, payload := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		method, payload = http.MethodPost, bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return nil, usage(fmt.Errorf("--addr: %w", display.Redact(err, c.base)))
	}
	// The daemon refuses names in Host, against web pages; this is none.
	req.Host = "localhost"
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no daemon answers at %s: %w; is it running? name its address with --addr", display.Address(c.base), unwrapURL(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var told struct {
		Error string `json:"error"`
	}
	text := strings.TrimSpace(string(raw))
	if json.Unmarshal(raw, &told) == nil && told.Error != "" {
		text = told.Error
	}
	if text == "" {
		text = "HTTP " + resp.Status
	}
	return nil, &answerError{code: resp.StatusCode, text: text}
}

// unwrapURL drops the address, which the caller names.
func unwrapURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// call sends a request and decodes the answer into out.
func (c *client) call(ctx context.Context, path string, body, out any) error {
	r, err := c.open(ctx, path, body)
	if err != nil {
		return asUsage(err)
	}
	defer r.Close()
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return fmt.Errorf("the answer of %s is not JSON, is that a walpurge daemon? %w", display.Address(c.base), err)
	}
	return nil
}

// asUsage gives requests that name what there is not their exit code.
func asUsage(err error) error {
	var answer *answerError
	if errors.As(err, &answer) && (answer.code == http.StatusBadRequest || answer.code == http.StatusNotFound) {
		return usage(err)
	}
	return err
}

// printJSON writes a value as an indented document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
