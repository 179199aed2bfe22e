package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/cmd/config"
)

// natsFiles reads the files of a connection to a NATS server, at the start and again at each reconnect, within the
// bounds of package readfile. The client library calls it with the connection locked, so a read that blocks would
// block every use of the connection. The library's own options (UserCredentials, NkeyOptionFromSeed, RootCAs, ClientCert)
// read files of any kind and size.
type natsFiles struct {
	cfg config.NATS
	// report receives why a file could not be used at a reconnect, which the library does not report.
	report func(error)
	// conn is the connection once it was made.
	conn atomic.Pointer[nats.Conn]
}

// options returns the options of a connection with the files that are configured, or why one of them cannot be used.
// None of their callbacks is called by two goroutines at once.
func (f *natsFiles) options() ([]nats.Option, error) {
	var opts []nats.Option
	if f.cfg.Credentials != "" {
		if _, _, err := f.credentials(); err != nil {
			return nil, err
		}
		// The signature is made with the key that was in the file when the token was read from it.
		var seed []byte
		opts = append(opts, nats.UserJWT(
			func() (token string, err error) {
				token, seed, err = f.credentials()
				return token, f.reported(err)
			},
			func(nonce []byte) ([]byte, error) { return sign(seed, nonce) },
		))
	}
	if f.cfg.NkeyFile != "" {
		_, name, err := f.nkey()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Nkey(name, func(nonce []byte) ([]byte, error) {
			seed, now, err := f.nkey()
			if err != nil {
				return nil, f.reported(err)
			}
			if now != name {
				// This attempt has announced the former user already. The connection is locked by its caller, and the next attempt reads its options again.
				if nc := f.conn.Load(); nc != nil {
					nc.Opts.Nkey, name = now, now
				}
				return nil, f.reported(errors.New("nats.nkey_file has the seed of another user now; connecting as that one"))
			}
			return sign(seed, nonce)
		}))
	}
	var certificate nats.TLSCertHandler
	var authorities nats.RootCAsHandler
	if f.cfg.CertFile != "" {
		certificate = func() (tls.Certificate, error) {
			pair, err := f.certificate()
			return pair, f.reported(err)
		}
	}
	if f.cfg.CAFile != "" {
		authorities = func() (*x509.CertPool, error) {
			pool, err := f.authorities()
			return pool, f.reported(err)
		}
	}
	if certificate != nil || authorities != nil {
		opts = append(opts, nats.ClientTLSConfig(certificate, authorities))
	}
	return opts, nil
}

// connected notes the connection that was made with the options.
func (f *natsFiles) connected(nc *nats.Conn) { f.conn.Store(nc) }

// reported reports an error once the connection was made; before, Connect returns it.
func (f *natsFiles) reported(err error) error {
	if err != nil && f.conn.Load() != nil {
		f.report(err)
	}
	return err
}

// credentials reads the token and the seed of a user. Its errors repeat nothing of the file.
func (f *natsFiles) credentials() (token string, seed []byte, err error) {
	data, err := readfile.Read(f.cfg.Credentials, readfile.MaxSecret)
	if err != nil {
		return "", nil, fmt.Errorf("nats.credentials: %w", err)
	}
	token, err = nkeys.ParseDecoratedJWT(data)
	key, keyErr := nkeys.ParseDecoratedUserNKey(data)
	if err != nil || keyErr != nil || token == "" {
		return "", nil, errors.New("nats.credentials: the file must hold the token and the seed of a user, as `nsc generate creds` writes them")
	}
	seed, err = key.Seed()
	return token, seed, err
}

// nkey reads the seed of a user, and returns it with the user's public name.
func (f *natsFiles) nkey() (seed []byte, name string, err error) {
	data, err := readfile.Read(f.cfg.NkeyFile, readfile.MaxSecret)
	if err != nil {
		return nil, "", fmt.Errorf("nats.nkey_file: %w", err)
	}
	key, err := nkeys.ParseDecoratedUserNKey(data)
	if err != nil {
		return nil, "", errors.New("nats.nkey_file: the file must hold the seed of the user's nkey, a line that begins with SU")
	}
	if name, err = key.PublicKey(); err != nil {
		return nil, "", errors.New("nats.nkey_file: the seed has no valid public key")
	}
	seed, err = key.Seed()
	return seed, name, err
}

func sign(seed, nonce []byte) ([]byte, error) {
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

func (f *natsFiles) certificate() (tls.Certificate, error) {
	cert, err := readfile.Read(f.cfg.CertFile, readfile.MaxCertificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats.tls.cert_file: %w", err)
	}
	key, err := readfile.Read(f.cfg.KeyFile, readfile.MaxSecret)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats.tls.key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats.tls.cert_file and nats.tls.key_file: %w", err)
	}
	return pair, nil
}

func (f *natsFiles) authorities() (*x509.CertPool, error) {
	data, err := readfile.Read(f.cfg.CAFile, readfile.MaxCertificate)
	if err != nil {
		return nil, fmt.Errorf("nats.tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("nats.tls.ca_file: the file holds no certificate in PEM form")
	}
	return pool, nil
}
