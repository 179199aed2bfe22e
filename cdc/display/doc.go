// Package display prepares what reaches people in messages, logs and terminals: addresses of servers without what may be secret in them,
// and names and texts without characters that a terminal takes for commands.
//
// Address prints an address. Redact takes an error of a library, which may quote the address that it was given, and returns it
// with a text that does not. Of an address only the scheme, the hosts and their ports are printed, and the path of a socket. User
// names are left out, since some servers take a token there, and so are paths and queries, since some services have a secret
// there. An address that cannot be read for certain is not printed at all: a badly escaped password can end up in any of its parts.
//
// Name prints a name that comes from a file, a database or a row; it is quoted if it holds a character that is not printable.
// Writer is the last defence in front of a terminal: it escapes each such character of what is written.
package display
