// Package gossip tells which members of the network are alive, and where. What it says is a hint: it decides no membership, no vote and
// no copy, and whoever acts on it checks the peer's credential.
//
// Messages are AES-GCM under the network's key ring and carry the network's name as label, so strangers and other networks are not
// heard. A partition that lasts makes members forget each other for good; a loop therefore joins again every enrolled member that is
// not alive.
package gossip
