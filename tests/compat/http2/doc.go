// Package http2 tests the server's HTTP/2 with h2spec.
package http2
