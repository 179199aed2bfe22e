package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

// lacking is followed by what to grant.
const lacking = "the user lacks a permission"

// errKeyDenied means a server's refusal of a key's name.
var errKeyDenied = errors.New("the user may not touch this key; allow its pattern with ACL SETUSER <user> ~<pattern>, or correct the rule that names it")

// verdict is what a server's error code means to a lane.
type verdict struct {
	class sinks.Class
	text  string
}

// codes maps the first word of an error reply to its meaning. Words that are
// not here are transient.
var codes = map[string]verdict{
	"NOAUTH":      {sinks.Lane, "the server asks for a password; set password_file"},
	"WRONGPASS":   {sinks.Lane, "the server refused the user name or the password; check username and password_file"},
	"NOPERM":      {sinks.Lane, lacking},
	"READONLY":    {sinks.Lane, "the server is a read-only replica; point url at the primary"},
	"MISCONF":     {sinks.Lane, "the server refuses writes because it cannot save its data; free its disk or repair its persistence"},
	"DENIED":      {sinks.Lane, "the server is in protected mode; give its user a password or bind it to an address"},
	"MOVED":       {sinks.Lane, "the key lives on another node and the server did not let us read the slot table; grant +cluster|slots +cluster|shards"},
	"CROSSSLOT":   {sinks.Lane, "the server is a cluster and did not let us read the slot table; grant +cluster|slots +cluster|shards"},
	"OOM":         {sinks.Transient, "the server is out of memory"},
	"LOADING":     {sinks.Transient, "the server is still loading its data"},
	"BUSY":        {sinks.Transient, "the server is busy with a script"},
	"CLUSTERDOWN": {sinks.Transient, "the cluster is down"},
	"TRYAGAIN":    {sinks.Transient, "the key's slot is being moved"},
	"MASTERDOWN":  {sinks.Transient, "the replica has lost its primary"},
	"NOREPLICAS":  {sinks.Transient, "the server has fewer replicas than it wants for writes"},
	"NOSCRIPT":    {sinks.Transient, "the server has forgotten a script"},
	"UNKILLABLE":  {sinks.Transient, "the server is busy with a script"},
}

// unknownCommand begins the meaning of a reply to a command that the server lacks.
const unknownCommand = "the server does not know the command"

// phrases are parts of replies whose code is only ERR, in lower case.
var phrases = map[string]verdict{
	"unknown command":            {sinks.Lane, unknownCommand + "; Valkey or Redis 6 or newer is needed, with its commands not renamed"},
	"db index is out of range":   {sinks.Lane, "the server has no database of that number; correct the url"},
	"select is not allowed":      {sinks.Lane, "a cluster has only database 0; take the database out of the url"},
	"without any password":       {sinks.Lane, "the server's default user has no password; remove password_file, or name a user"},
	"cluster support disabled":   {sinks.Lane, "several hosts are nodes of one cluster, and the server is not a cluster node; name one host in url"},
	"unknown command 'sentinel'": {sinks.Lane, "url names a server that is no sentinel; name the sentinels"},
	"acl failure in script":      {sinks.Lane, lacking},
	"executing the script":       {sinks.Lane, lacking},
	"invalid password":           {sinks.Lane, "the server refused the password; check password_file"},
}

// sentinelCodes are the meanings that differ where a sentinel answers.
var sentinelCodes = map[string]verdict{
	"NOAUTH":    {sinks.Lane, "the sentinel asks for a password; set sentinel_password_file, and sentinel_username for a user other than the default one"},
	"WRONGPASS": {sinks.Lane, "the sentinel refused the user name or the password; check sentinel_username and sentinel_password_file"},
	"DENIED":    {sinks.Lane, "the sentinel is in protected mode; give its user a password or bind it to an address"},
}

// party is the server or sentinel that a connection is for, for messages.
type party struct {
	who      string
	sentinel bool
	// borrowed: a sentinel got the credentials of the servers.
	borrowed bool
}

func (p *party) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &partyError{p, err}
}

type partyError struct {
	*party
	err error
}

func (e *partyError) Error() string { return e.who + ": " + e.err.Error() }
func (e *partyError) Unwrap() error { return e.err }

// refused is what a sentinel's error code means.
func (s *Sink) refused(by *partyError, code string) (verdict, bool) {
	v, known := sentinelCodes[code]
	switch {
	case code == "WRONGPASS" && by.borrowed:
		v.text = "the sentinel refused the user name or the password of the servers, which it gets because sentinel_password_file is not set; set it"
	case code == "NOPERM":
		user := s.cfg.SentinelUsername
		if user == "" {
			user = "default"
		}
		v, known = verdict{sinks.Lane, "the sentinel's user lacks a permission; at the sentinel, run: ACL SETUSER " + user + " +sentinel|get-master-addr-by-name"}, true
	}
	return v, known
}

// classify turns what the client reports into an error that a lane can act on
// and that repeats nothing a server said, except why it refused a connection.
func (s *Sink) classify(doing string, err error) error {
	var by *partyError
	if errors.As(err, &by) {
		doing += " to " + by.who
		err = by.err
	}
	if errors.Is(err, errKeyDenied) {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %w", doing, err))
	}
	reply, ok := valkey.IsValkeyErr(err)
	if !ok {
		return s.network(doing, err)
	}
	text := reply.Error()
	code, _, _ := strings.Cut(text, " ")
	s.log.Debug("valkey refused", "doing", doing, "reply", s.scrub(text))
	v, known := codes[code]
	if by != nil && by.sentinel {
		if of, is := s.refused(by, code); is {
			v, known = of, true
		}
	}
	if !known {
		lower := strings.ToLower(text)
		longest := 0
		for phrase, pv := range phrases {
			if len(phrase) > longest && strings.Contains(lower, phrase) {
				v, known, longest = pv, true, len(phrase)
			}
		}
	}
	if strings.HasPrefix(doing, connecting) && (!known || strings.HasPrefix(v.text, unknownCommand)) {
		return s.refusedHello(doing, text)
	}
	if !known {
		return fmt.Errorf("valkey: %s: the server answered with an error that is not known here; its text is in the log at level debug", doing)
	}
	if v.text == lacking {
		v.text += "; as a user who may, run: " + s.cfg.grant(s.clustered.Load())
	}
	if code == "READONLY" && (s.clustered.Load() || s.cfg.mode() == sentinel) {
		v = verdict{sinks.Transient, "the server is a replica by now; the next call looks for the primary"}
	}
	err = fmt.Errorf("valkey: %s: %s: %s", doing, code, v.text)
	if v.class == sinks.Lane {
		return sinks.LaneError(err)
	}
	return err
}

// refusedHello is the error of a connection that was refused in words that are not known here. Proxies such as Envoy and
// twemproxy do not know HELLO, and each says so in another way.
func (s *Sink) refusedHello(doing, text string) error {
	if s.cfg.mode() == standalone {
		return fmt.Errorf("valkey: %s: the server refused the connection: %s", doing, s.quote(text))
	}
	return sinks.LaneError(fmt.Errorf("valkey: %s: the server answers HELLO with %s; for a proxy that does not know HELLO, or a server older than Redis 6, write mode: standalone", doing, s.quote(text)))
}

// connecting is what is done while no value of a rule is sent, so that a server's words may be repeated.
const connecting = "connecting"

func (s *Sink) network(doing string, err error) error {
	if class, _ := sinks.ClassOf(err); class == sinks.Lane {
		if strings.HasPrefix(err.Error(), "valkey: ") && doing != connecting {
			return sinks.LaneError(fmt.Errorf("valkey: %s: %s", doing, strings.TrimPrefix(err.Error(), "valkey: ")))
		}
		return err
	}
	toSentinel := strings.HasPrefix(doing, connecting+" to the sentinel")
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %w; the name in url must be one of the certificate's, and its issuer trusted: set tls.ca_file to the issuer's certificate, or to a self-signed server's own", doing, err))
	}
	// So crypto/tls calls an alert that the other side has sent.
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %w; if the server wants to know its clients, set tls.cert_file and tls.key_file", doing, err))
	}
	var shaking *handshakeError
	var record tls.RecordHeaderError
	if errors.As(err, &shaking) && (errors.As(err, &record) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF)) {
		fix := "if it speaks without TLS, write valkey:// in url"
		if toSentinel {
			fix = "if the sentinels speak without TLS, write sentinel_tls: false"
		}
		return fmt.Errorf("valkey: %s: no answer to the TLS handshake; %s", doing, fix)
	}
	if strings.HasPrefix(doing, connecting) && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		fix := "if it speaks TLS, write valkeys:// in url; if it is a proxy that does not know HELLO, write mode: standalone"
		if toSentinel {
			fix = "if the sentinels speak TLS, write sentinel_tls: true"
		}
		return fmt.Errorf("valkey: %s: the other side closed the connection at the first command; %s", doing, fix)
	}
	if strings.HasPrefix(doing, connecting) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return fmt.Errorf("valkey: %s: no answer within %s", doing, s.patience.dial)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("valkey: %s: no answer within %s: %w", doing, s.patience.reply, err)
	}
	return fmt.Errorf("valkey: %s: %w", doing, err)
}

// quote repeats a server's words without passwords, on one line and shortened.
func (s *Sink) quote(text string) string {
	const longest = 200
	text = s.scrub(text)
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return strconv.Quote(text)
}

// scrub strikes the passwords out of a server's text.
func (s *Sink) scrub(text string) string {
	for _, p := range []*string{s.password.Load(), s.sentinelPassword.Load()} {
		if p != nil && *p != "" {
			text = strings.ReplaceAll(text, *p, "***")
		}
	}
	return text
}

// isReply tells a server's refusal from a connection that is no use any more.
func isReply(err error) bool {
	_, ok := valkey.IsValkeyErr(err)
	return ok
}

// isKeyDenied tells a refusal of a key's name from one of the command. The code
// is the same; Redis 6 says "one of the keys", later servers "a key".
func isKeyDenied(err error) bool {
	reply, ok := valkey.IsValkeyErr(err)
	return ok && strings.HasPrefix(reply.Error(), "NOPERM") && strings.Contains(reply.Error(), "access")
}

// freshMayHelp tells whether a new connection can do better than this one: all
// failures but those of the invalidations themselves.
func freshMayHelp(err error) bool {
	if err == nil {
		return false
	}
	var be *sinks.BatchError
	if !errors.As(err, &be) {
		class, _ := sinks.ClassOf(err)
		return class != sinks.Item
	}
	for _, ferr := range be.Failed {
		if class, _ := sinks.ClassOf(ferr); class != sinks.Item && !errors.Is(ferr, errKeyDenied) && !errors.Is(ferr, errNoFlush) {
			return true
		}
	}
	return false
}
