// A server that prints each line that it is sent (talk-go PORT), and its client
// (talk-go ADDRESS PORT WORD).
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) == 4 {
		connection, err := net.Dial("tcp", net.JoinHostPort(os.Args[1], os.Args[2]))
		check(err)
		fmt.Fprintln(connection, os.Args[3])
		io.Copy(io.Discard, connection)
		return
	}
	listener, err := net.Listen("tcp", ":"+os.Args[1])
	check(err)
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			line, _ := bufio.NewReader(connection).ReadString('\n')
			fmt.Print(line)
			connection.Close()
		}()
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
