package valkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority issues certificates into files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.file = writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) string {
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}

// issue writes a certificate that serves both ends, for the name and 127.0.0.1.
func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	certFile = writePEM(t, filepath.Join(a.dir, name+".pem"), "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return certFile, writePEM(t, filepath.Join(a.dir, name+".key"), "EC PRIVATE KEY", der)
}

// startTLS starts a server that takes TLS on a second port, and no one without a
// certificate there.
func startTLS(t *testing.T, a *authority, more ...string) (srv *server, addr string) {
	cert, key := a.issue(t, "server.test")
	port := strconv.Itoa(freePort(t))
	srv = startServer(t, append([]string{
		"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.file, "--tls-auth-clients", "yes",
	}, more...)...)
	return srv, net.JoinHostPort("127.0.0.1", port)
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	srv, addr := startTLS(t, ours)
	cert, key := ours.issue(t, "client.test")
	files := TLSConfig{CAFile: ours.file, CertFile: cert, KeyFile: key}
	open := func(change func(*TLSConfig)) *Sink {
		return openSink(t, "valkeys://"+addr, nil, func(c *Config) {
			c.TLS = files
			if change != nil {
				change(&c.TLS)
			}
		})
	}

	s := open(nil)
	fill(t, srv.admin, "a")
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, srv.admin, "a"))
	require.NoError(t, open(func(c *TLSConfig) { c.ServerName = "server.test" }).Check(t.Context()))

	for says, change := range map[string]func(*TLSConfig){
		"its issuer trusted":             func(c *TLSConfig) { c.CAFile = others.file },
		"one of the certificate's":       func(c *TLSConfig) { c.ServerName = "elsewhere.test" },
		"tls.ca_file: open":              func(c *TLSConfig) { c.CAFile = "/nowhere/ca.pem" },
		"holds no certificate in PEM":    func(c *TLSConfig) { c.CAFile = key },
		"tls.cert_file, tls.key_file: o": func(c *TLSConfig) { c.KeyFile = "/nowhere/key.pem" },
	} {
		requireLane(t, open(change).Purge(t.Context(), keysOf("a")), says)
	}

	// The refusal of a client may be overtaken by the end of its connection, so
	// what it is taken for is tried apart.
	bare := open(func(c *TLSConfig) { c.CertFile, c.KeyFile = "", "" })
	require.Error(t, bare.Purge(t.Context(), keysOf("a")))
	requireLane(t, bare.classify("connecting", &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}), "set tls.cert_file")
}

// A renewed certificate is used from the next connection on.
func TestTLSFilesAreReadAgain(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	srv, addr := startTLS(t, ours)
	cert, key := ours.issue(t, "client.test")
	good := map[string][]byte{}
	for _, file := range []string{cert, key} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		good[file] = data
	}
	stranger, strangersKey := others.issue(t, "client.test")
	for from, to := range map[string]string{stranger: cert, strangersKey: key} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, data, 0o600))
	}
	s := openSink(t, "valkeys://"+addr, nil, func(c *Config) { c.TLS = TLSConfig{CAFile: ours.file, CertFile: cert, KeyFile: key} })
	require.Error(t, s.Purge(t.Context(), keysOf("a")))
	for file, data := range good {
		require.NoError(t, os.WriteFile(file, data, 0o600))
	}
	fill(t, srv.admin, "a")
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, srv.admin, "a"))
}
