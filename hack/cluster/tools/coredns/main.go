// Command coredns is CoreDNS with the plugins that the test node needs.
//
// Why it exists: upstream's main links every plugin, three cloud providers and
// a certificate manager among them; this one builds in a fraction of the time.
// It must never change how CoreDNS behaves: it only chooses the plugins.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
)

func init() {
	// The order in which the plugins see a query, as in upstream's plugin.cfg.
	dnsserver.Directives = []string{"health", "ready", "errors", "cache", "loop", "kubernetes"}
}

func main() {
	coremain.Run()
}
