// Package systemd tells a service manager how the daemon fares, by the protocol
// of sd_notify(3): a datagram of assignments to the socket in NOTIFY_SOCKET.
//
// It says READY=1 once, when the daemon is ready for the first time; WATCHDOG=1
// at least twice per period and only while the daemon says that it is alive, so
// that a wedged one is ended and started again; RELOADING=1 around a reload;
// STOPPING=1 at the end. Without a socket it does nothing, and it never fails
// the daemon: what cannot be sent is logged.
package systemd
