package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// VarnishConfig says how a Varnish server is to be started.
type VarnishConfig struct {
	// Nice is added to the niceness of this process, 0 to 19 (Linux): under load this process is
	// served before the server.
	Nice int
	// Dir holds the server's files and varnish.log. Empty: a temporary directory,
	// which Close removes.
	Dir string
	// VCL is the whole configuration. It is compiled, which takes a second.
	VCL string
	// Backend, host:port, takes the place of 127.0.0.1 and 8080 in the VCL's
	// backend, which is how documents write it. Empty: the VCL stands as it is.
	Backend string
	// Listen are addresses of this machine beside 127.0.0.1, which the server listens at with the same
	// port.
	Listen []string
}

// Varnish is a Varnish server, a direct child of this process.
type Varnish struct {
	dir   string
	owned bool
	port  int
	proc  *process
}

// documentedBackend is what Backend replaces.
const documentedBackend = `.host = "127.0.0.1"; .port = "8080";`

// StartVarnish starts a server on a free port of 127.0.0.1 and returns when it
// answers. It blocks until then or until ctx ends; after an error nothing is
// left running. Its first answer is to a GET of /harness-up, which its backend
// may see.
func StartVarnish(ctx context.Context, cfg VarnishConfig) (*Varnish, error) {
	v := &Varnish{dir: cfg.Dir}
	if err := v.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("start Varnish: %w", err), v.Close())
	}
	return v, nil
}

// FindVarnish returns the path of varnishd, which lies in sbin: not every PATH
// has that.
func FindVarnish() (string, error) {
	for _, name := range []string{"varnishd", "/usr/sbin/varnishd", "/usr/local/sbin/varnishd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no varnishd in PATH or /usr/sbin: run `make deps` or `apt-get install varnish varnish-modules`")
}

func (v *Varnish) start(ctx context.Context, cfg VarnishConfig) error {
	binary, err := FindVarnish()
	if err != nil {
		return err
	}
	if v.dir == "" {
		if v.dir, err = os.MkdirTemp("", "walpurge-varnish-"); err != nil {
			return err
		}
		v.owned = true
	}
	if v.dir, err = filepath.Abs(v.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return err
	}
	if cfg.Backend != "" {
		host, port, err := net.SplitHostPort(cfg.Backend)
		if err != nil {
			return err
		}
		if !strings.Contains(cfg.VCL, documentedBackend) {
			return fmt.Errorf("the VCL has no backend `%s` to replace", documentedBackend)
		}
		cfg.VCL = strings.Replace(cfg.VCL, documentedBackend, fmt.Sprintf(".host = %q; .port = %q;", host, port), 1)
	}
	file := filepath.Join(v.dir, "harness.vcl")
	if err := os.WriteFile(file, []byte(cfg.VCL), 0o644); err != nil {
		return err
	}
	for range 5 {
		if v.port, err = FreePort(); err != nil {
			return err
		}
		if err = v.launch(ctx, binary, file, cfg); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// Addr is host:port.
func (v *Varnish) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(v.port)) }

// PID is the id of the managing process, running or not.
func (v *Varnish) PID() int { return v.proc.pid() }

// Close stops the server and removes the directory that the harness made. It
// may be called again.
func (v *Varnish) Close() error {
	var errs []error
	if v.proc != nil {
		// Killed, the managing process would leave shared memory behind.
		errs = append(errs, v.proc.signal(syscall.SIGTERM))
		select {
		case <-v.proc.done:
		case <-time.After(20 * time.Second):
			errs = append(errs, v.proc.kill())
		}
	}
	if v.owned {
		errs = append(errs, os.RemoveAll(v.dir))
	}
	return errors.Join(errs...)
}

func (v *Varnish) launch(ctx context.Context, binary, vcl string, cfg VarnishConfig) error {
	var more []string
	for _, addr := range cfg.Listen {
		more = append(more, "-a", net.JoinHostPort(addr, strconv.Itoa(v.port)))
	}
	proc, err := startProcess(processSpec{
		path: binary,
		// Without a jail: the directory is the caller's alone.
		args: append([]string{"-F", "-j", "none", "-n", filepath.Join(v.dir, "work"), "-f", vcl, "-a", v.Addr(),
			"-s", "malloc,32m", "-p", "thread_pools=1", "-p", "thread_pool_min=10"}, more...),
		dir:      v.dir,
		logFile:  filepath.Join(v.dir, "varnish.log"),
		orphaned: syscall.SIGTERM,
		nice:     cfg.Nice,
	})
	if err != nil {
		return err
	}
	v.proc = proc
	err = proc.await(ctx, v.ready)
	if err == nil || !errors.Is(err, errEnded) {
		return err // Close ends one that does not answer
	}
	said := proc.lastWords()
	if strings.Contains(said, "Address already in use") {
		err = fmt.Errorf("%w (%d)", errPortTaken, v.port)
	}
	return fmt.Errorf("%w: %s", err, said)
}

// ready demands an answer of Varnish's own: another server may have taken the
// port first.
func (v *Varnish) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Addr()+"/harness-up", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.Header.Get("X-Varnish") == "" {
		return fmt.Errorf("another server has port %d", v.port)
	}
	return nil
}

// DocumentedVCL returns the first block of VCL in a document, so that what is
// documented is what is run.
func DocumentedVCL(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	_, vcl, found := strings.Cut(string(text), "\n```vcl\n")
	if !found {
		return "", fmt.Errorf("%s has no block of VCL", file)
	}
	vcl, _, _ = strings.Cut(vcl, "\n```\n")
	return vcl, nil
}
