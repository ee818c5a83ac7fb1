// Package gateway asks the real etcd and etcore the same things by JSON over plain
// HTTP and compares status, headers and bodies.
package gateway
