package stream

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// notStored keeps the server from storing a message of a probe: JetStream refuses one that expects another stream.
const notStored = "walpurge-probe"

// noRequest is no valid request of JetStream's API. DELETE of a stream or consumer wants no content at all, all other calls
// read it as JSON, which it is not. It has to begin like JSON: PURGE takes other content for an empty request, which purges
// (nats-server, server/jetstream_api.go: isEmptyRequest, isJSONObjectOrArray).
const noRequest = "{"

// rights tries what the user of a connection may publish and subscribe to. Nothing that it publishes is stored or
// carried out: messages to a stream expect another one, and requests to the API hold no valid request.
type rights struct {
	nc  *nats.Conn
	api string
}

func newRights(nc *nats.Conn, domain string) rights {
	if domain == "" {
		return rights{nc, "$JS.API."}
	}
	return rights{nc, "$JS." + domain + ".API."}
}

// publish reports whether the user may publish to a subject. The server reports a violation before it answers the ping of
// a flush, and the client stores it as its last error.
func (r rights) publish(subject string) (bool, error) {
	m := nats.NewMsg(subject)
	m.Header.Set("Nats-Expected-Stream", notStored)
	m.Data = []byte(noRequest)
	if err := r.nc.PublishMsg(m); err != nil {
		return false, err
	}
	return r.allowed("Publish", subject)
}

func (r rights) subscribe(subject string) (bool, error) {
	sub, err := r.nc.Subscribe(subject, func(*nats.Msg) {})
	if err != nil {
		return false, err
	}
	allowed, err := r.allowed("Subscription", subject)
	_ = sub.Unsubscribe() // it is invalid already if it was refused
	return allowed, err
}

func (r rights) allowed(verb, subject string) (bool, error) {
	if err := r.nc.FlushTimeout(trialTimeout); err != nil {
		return false, fmt.Errorf("no answer within %s: %w", trialTimeout, err)
	}
	last := r.nc.LastError()
	if last == nil {
		return true, nil
	}
	// A server of the domain itself takes the domain out of a subject before it asks for the right.
	for _, name := range []string{subject, strings.Replace(subject, r.api, "$JS.API.", 1)} {
		if strings.Contains(strings.ToLower(last.Error()), strings.ToLower(fmt.Sprintf("permissions violation for %s to %q", verb, name))) {
			return false, nil
		}
	}
	return true, nil
}

// which returns the subjects that are allowed.
func which(try func(subject string) (bool, error), subjects []string) (allowed []string, err error) {
	for _, subject := range subjects {
		ok, err := try(subject)
		if err != nil {
			return nil, err
		}
		if ok {
			allowed = append(allowed, subject)
		}
	}
	return allowed, nil
}

// strangers are subjects that no pipeline needs, of names that no stream and no pipeline has.
func (r rights) strangers() (publish, subscribe []string) {
	stranger := "walpurge-probe-" + strings.ToLower(rand.Text())
	return []string{stranger, "walpurge." + stranger + ".progress", r.api + "STREAM.INFO." + stranger, r.api + "STREAM.DELETE." + stranger, r.api + "STREAM.NAMES"},
		[]string{stranger, "walpurge." + stranger + ".purged.cache"}
}

// Excess says what the user of a connection may do beyond what Permissions lists, empty if nothing was found.
func Excess(nc *nats.Conn, pipeline, domain string) (string, error) {
	r := newRights(nc, domain)
	publish, subscribe := r.strangers()
	others, err := which(r.publish, publish)
	if err != nil {
		return "", err
	}
	read, err := which(r.subscribe, subscribe)
	if err != nil || len(others)+len(read) == 0 {
		return "", err
	}
	var may []string
	if len(others) > 0 {
		may = append(may, "publish to "+kinds(others))
	}
	if len(read) > 0 {
		may = append(may, "subscribe to "+kinds(read))
	}
	return fmt.Sprintf("the daemon's user may %s, which the pipeline %s does not need; docs/security.md lists what it needs", strings.Join(may, " and to "), pipeline), nil
}

// kinds names what subjects of strangers are examples of.
func kinds(subjects []string) string {
	var names []string
	for _, s := range subjects {
		switch {
		case strings.HasPrefix(s, "walpurge-probe-"):
			return "any subject"
		case strings.HasPrefix(s, "walpurge."):
			names = append(names, "subjects of other pipelines")
		case strings.HasSuffix(s, "STREAM.NAMES"):
			names = append(names, s)
		default:
			names = append(names, s[:strings.LastIndexByte(s, '.')]+".* of other streams")
		}
	}
	return strings.Join(names, ", ")
}

// ListenerFaults reports what a user for listeners may do but must not, and what it may not but needs. The connection is that of the user.
func ListenerFaults(nc *nats.Conn, pipeline, domain string, sinks []string) []error {
	r := newRights(nc, domain)
	var writes []string
	for _, sink := range append([]string{"probe"}, sinks...) {
		writes = append(writes, purgeSubject(pipeline, sink), handSubject(pipeline, sink), parkedSubject(pipeline, sink), storedSubject(pipeline, sink), PurgedSubject(pipeline, sink))
	}
	writes = append(writes, progressSubject(pipeline), trimmedSubject(pipeline))
	for _, name := range []string{streamName(pipeline), parkedName(pipeline), handName(pipeline)} {
		for _, call := range []string{"STREAM.UPDATE.", "STREAM.PURGE.", "STREAM.DELETE.", "STREAM.MSG.DELETE.", "STREAM.MSG.GET.", "STREAM.INFO.", "CONSUMER.CREATE."} {
			writes = append(writes, r.api+call+name)
		}
		writes = append(writes, r.api+"CONSUMER.MSG.NEXT."+name+".probe", r.api+"CONSUMER.DELETE."+name+".probe", "$JS.ACK."+name+".probe")
	}
	publish, subscribe := r.strangers()
	var errs []error
	fault := func(verb string, subjects []string, err error) {
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("nats: the listener's user: %w", err))
		case len(subjects) > 0:
			errs = append(errs, fmt.Errorf("nats: the listener's user may %s to %s%s; allow it to subscribe to %s and deny all else: publish: {deny: \">\"}, subscribe: {allow: %q}",
				verb, subjects[0], andMore(len(subjects)-1), PurgedSubject(pipeline, ">"), PurgedSubject(pipeline, ">")))
		}
	}
	allowed, err := which(r.publish, append(writes, publish...))
	fault("publish", allowed, err)
	allowed, err = which(r.subscribe, append([]string{purgeSubject(pipeline, "probe"), progressSubject(pipeline), handSubject(pipeline, "probe"), parkedSubject(pipeline, "probe")}, subscribe...))
	fault("subscribe", allowed, err)
	if ok, err := r.subscribe(PurgedSubject(pipeline, ">")); err == nil && !ok {
		errs = append(errs, fmt.Errorf("nats: the listener's user may not subscribe to %[1]s; grant it, subscribe: {allow: %[1]q}", PurgedSubject(pipeline, ">")))
	}
	return errs
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more subjects", n)
}
