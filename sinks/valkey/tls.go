package valkey

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/walpurge/walpurge/cdc/readfile"
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

// SentinelTLS is the key sentinel_tls: false, true, which is TLS with the files of `tls:`, or a block like that.
type SentinelTLS struct {
	Enabled bool
	TLSConfig
}

// validate reports what is wrong with a block of that name.
func (c TLSConfig) validate(block string) (errs []error) {
	if c.CertFile != "" && c.KeyFile == "" {
		errs = append(errs, fmt.Errorf("%[1]s.key_file is missing; %[1]s.cert_file needs its key", block))
	}
	if c.KeyFile != "" && c.CertFile == "" {
		errs = append(errs, fmt.Errorf("%[1]s.cert_file is missing; %[1]s.key_file needs its certificate", block))
	}
	return errs
}

// load reads the files of a block of that name. A file that cannot be used is a lane error.
func (c TLSConfig) load(block string) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := readfile.Read(c.CAFile, readfile.MaxCertificate)
		if err != nil {
			return nil, sinks.LaneError(fmt.Errorf("valkey: %s.ca_file: %w; make it readable for this process", block, err))
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sinks.LaneError(fmt.Errorf("valkey: %s.ca_file: %s holds no certificate in PEM", block, c.CAFile))
		}
	}
	if c.CertFile != "" {
		pem, err1 := readfile.Read(c.CertFile, readfile.MaxCertificate)
		key, err2 := readfile.Read(c.KeyFile, readfile.MaxSecret)
		cert, err := tls.X509KeyPair(pem, key)
		if err := cmp.Or(err1, err2, err); err != nil {
			return nil, sinks.LaneError(fmt.Errorf("valkey: %[1]s.cert_file, %[1]s.key_file: %[2]w", block, err))
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
