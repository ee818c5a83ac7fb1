// Package durability checks what is on disk: that acknowledged writes survive
// a kill, and that etcd and etcore read each other's directories.
package durability
