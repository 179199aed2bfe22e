package valkey

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/walpurge/walpurge/sinks"
)

// TLSConfig is the `tls:` block. The files are read again at every connect.
type TLSConfig struct {
	// CAFile holds the certificates of the issuers to trust, in PEM; empty means
	// those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are for servers that want to know their clients.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name that certificates must have; empty means the host
	// that is connected to, each node of a cluster by its own.
	ServerName string `yaml:"server_name"`
}

func (c TLSConfig) validate() (errs []error) {
	if c.CertFile != "" && c.KeyFile == "" {
		errs = append(errs, errors.New("tls.key_file is missing; tls.cert_file needs its key"))
	}
	if c.KeyFile != "" && c.CertFile == "" {
		errs = append(errs, errors.New("tls.cert_file is missing; tls.key_file needs its certificate"))
	}
	return errs
}

// load reads the files. A file that cannot be used is a lane error.
func (c TLSConfig) load() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, sinks.LaneError(fmt.Errorf("valkey: tls.ca_file: %w; make it readable for this process", err))
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sinks.LaneError(fmt.Errorf("valkey: tls.ca_file: %s holds no certificate in PEM", c.CAFile))
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, sinks.LaneError(fmt.Errorf("valkey: tls.cert_file, tls.key_file: %w", err))
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
