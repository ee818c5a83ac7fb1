// Package foreign runs clients in other languages than Go: a Python program with the package
// etcd3, and a Rust program with tonic; against etcore and against the real etcd, so that what
// they expect is etcd's. build.sh makes both.
package foreign
