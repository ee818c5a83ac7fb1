// Package differential applies the same calls one by one to two servers and
// compares every response and every error field for field.
//
// The calls go out through bare gRPC connections, or as JSON. Those that wait
// for others go on while the next ones are made, and are answered at the same
// place of the history on both servers (sessions.go). What may differ between
// two servers is listed in exempt.go and nowhere else. A failing history is
// shrunk by running parts of it against fresh pairs of servers.
package differential
