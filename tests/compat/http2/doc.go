// Package http2 tests the server's HTTP/2 with h2spec, and compares with etcd what
// flags say of pings and streams.
package http2
