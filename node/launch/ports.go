package launch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePorts finds ports on the loopback address that are free for TCP and UDP. They lie below the range from which systems take the ports of outgoing
// connections, so none of those can take one away while a node is down.
func FreePorts(n int) ([]int, error) {
	const lowest, highest = 20000, 32000
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range 50 * n {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(highest-lowest)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		held = append(held, l) // until all are found, so that none comes twice
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		u.Close()
		ports = append(ports, port)
	}
	return nil, errors.New("found too few free ports on 127.0.0.1")
}
