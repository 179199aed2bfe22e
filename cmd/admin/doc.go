// Package admin is the daemon's HTTP listener: health, metrics, status, wait,
// reload, and the status page. It takes functions and knows no part of the daemon.
//
// What only reads is open to whoever reaches the listener, which is loopback by
// default. What changes something must be a POST of JSON from no other origin,
// addressed to the listener by an IP address or localhost, and carry the token
// where one is set.
package admin
