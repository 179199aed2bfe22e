package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

// lacking is followed by what to grant.
const lacking = "the user lacks a permission"

// errKeyDenied stands for a server's refusal of a key's name.
var errKeyDenied = errors.New("the user may not touch this key; allow its pattern with ACL SETUSER <user> ~<pattern>, or mend the rule that names it")

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
	"MISCONF":     {sinks.Lane, "the server refuses writes because it cannot save its data; free its disk or mend its persistence"},
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

// phrases are parts of replies whose code is only ERR, in lower case.
var phrases = map[string]verdict{
	"unknown command":            {sinks.Lane, "the server does not know the command; Valkey or Redis 6 or newer is needed, with its commands not renamed"},
	"db index is out of range":   {sinks.Lane, "the server has no database of that number; mend the url"},
	"select is not allowed":      {sinks.Lane, "a cluster has only database 0; take the database out of the url"},
	"without any password":       {sinks.Lane, "the server's default user has no password; remove password_file, or name a user"},
	"cluster support disabled":   {sinks.Lane, "several hosts are nodes of one cluster, and the server is none; name one host in url"},
	"unknown command 'sentinel'": {sinks.Lane, "url names a server that is no sentinel; name the sentinels"},
	"acl failure in script":      {sinks.Lane, lacking},
	"executing the script":       {sinks.Lane, lacking},
	"invalid password":           {sinks.Lane, "the server refused the password; check password_file"},
}

// classify turns what the client reports into an error that a lane can act on
// and that repeats nothing a server said.
func (s *Sink) classify(doing string, err error) error {
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
	if !known {
		lower := strings.ToLower(text)
		longest := 0
		for phrase, pv := range phrases {
			if len(phrase) > longest && strings.Contains(lower, phrase) {
				v, known, longest = pv, true, len(phrase)
			}
		}
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

func (s *Sink) network(doing string, err error) error {
	if class, _ := sinks.ClassOf(err); class == sinks.Lane {
		return err
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %w; the name in url must be one of the certificate's, and its issuer trusted", doing, err))
	}
	// So crypto/tls calls an alert that the other side has sent.
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %w; if the server wants to know its clients, set tls.cert_file and tls.key_file", doing, err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("valkey: %s: no answer within %s: %w", doing, s.patience.reply, err)
	}
	return fmt.Errorf("valkey: %s: %w", doing, err)
}

// scrub strikes the password out of a server's text.
func (s *Sink) scrub(text string) string {
	if p := s.password.Load(); p != nil && *p != "" {
		return strings.ReplaceAll(text, *p, "***")
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
