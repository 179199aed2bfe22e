// Package varnish purges a Varnish cache, on every node of it: by tag through
// the xkey module, by URL, and with bans by URL prefix or all of it.
//
// One call of Purge asks all nodes at once, and a nil from it means that every
// one has answered 200, in words that only Varnish's own configuration (VCL)
// can have put there: the built-in VCL hands requests of an unknown method to
// the application, whose 200 says nothing. What the VCL must hold is in
// docs/config.md.
//
// A node that fails makes the call fail and holds none of the others back. The
// lane then repeats the call; a node that has just carried it out is left alone
// meanwhile.
//
// The package never retries, follows no redirect, uses no proxy, and never puts
// a value into a request where it could be read as anything but that value.
package varnish
