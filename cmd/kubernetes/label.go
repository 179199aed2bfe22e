package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/readfile"
)

// Config says which pod is labelled, and where its API server is.
type Config struct {
	// Pod is the name of the daemon's own pod; empty: nothing is labelled.
	Pod string
	// Server is the host and port of the API server.
	Server string
	// Dir has the files of a service account: token, ca.crt and namespace.
	Dir string
	// Leads reports whether the daemon leads its pipeline.
	Leads func() bool
	// Poll is how often Leads is asked; 0: every half second.
	Poll   time.Duration
	Logger *slog.Logger
}

// Environment reads Pod and Server from WALPURGE_POD and the variables that Kubernetes sets in every container.
func (c *Config) Environment(lookup func(string) (string, bool)) error {
	c.Pod, _ = lookup("WALPURGE_POD")
	if c.Pod == "" {
		return nil
	}
	host, _ := lookup("KUBERNETES_SERVICE_HOST")
	port, _ := lookup("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errors.New("WALPURGE_POD is set, but KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not; unset it outside of Kubernetes")
	}
	c.Server, c.Dir = net.JoinHostPort(host, port), "/var/run/secrets/kubernetes.io/serviceaccount"
	return nil
}

// notLabelled is the condition that the label of the pod may be wrong; see package condition.
var notLabelled = condition.Text{
	Level: slog.LevelWarn, On: "the label of the pod cannot be set, so the Service of the leader may select the wrong pod", Off: "the label of the pod is set",
}

const (
	// confirmEvery is how often a label that is right already is set again.
	confirmEvery = time.Minute
	// callTimeout bounds one call, also the last one when the daemon stops.
	callTimeout = 3 * time.Second
)

// Run keeps the label walpurge.io/leader as Leads says until the context ends, then removes it. It returns at once if
// no pod is named.
func Run(ctx context.Context, cfg Config) {
	if cfg.Pod == "" {
		return
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second / 2
	}
	conditions := condition.NewLog(cfg.Logger)
	defer conditions.Close()
	set := func(ctx context.Context, leads bool) error {
		err := cfg.patch(ctx, leads)
		if err != nil {
			conditions.At(notLabelled).Observe("err", err)
		} else {
			conditions.At(notLabelled).End()
		}
		return err
	}
	defer func() { _ = set(context.WithoutCancel(ctx), false) }()
	t := time.NewTicker(cfg.Poll)
	defer t.Stop()
	var has bool
	var next time.Time // a restarted container may have an old label, so the first turn always sets it
	for {
		if leads := cfg.Leads(); leads != has || !time.Now().Before(next) {
			next = time.Now().Add(confirmEvery)
			if set(ctx, leads) == nil {
				has = leads
			} else {
				next = time.Now().Add(callTimeout)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// patch sets the label, or removes it. Token and certificate are read at each call, since Kubernetes renews them.
func (c Config) patch(ctx context.Context, leads bool) error {
	file := func(name string) (string, error) {
		b, err := readfile.Read(filepath.Join(c.Dir, name), readfile.MaxCertificate)
		return strings.TrimSpace(string(b)), err
	}
	token, err1 := file("token")
	ca, err2 := file("ca.crt")
	namespace, err3 := file("namespace")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return fmt.Errorf("%s has no certificate", filepath.Join(c.Dir, "ca.crt"))
	}
	value := "null"
	if leads {
		value = `"true"`
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	to := url.URL{Scheme: "https", Host: c.Server, Path: "/api/v1/namespaces/" + namespace + "/pods/" + c.Pod}
	body := []byte(`{"metadata":{"labels":{"walpurge.io/leader":` + value + `}}}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, to.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/merge-patch+json")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		return fmt.Errorf("the API server answered %s: %s; the pod's service account needs a Role with verb patch on pods", res.Status, bytes.TrimSpace(text))
	}
	return nil
}
