// Package differential applies the same calls one by one to two servers and
// compares every response and every error field for field.
//
// The calls go out through bare gRPC connections. What may differ between two
// servers is listed in exempt.go and nowhere else. A failing history is shrunk
// by running parts of it against fresh pairs of servers.
package differential
