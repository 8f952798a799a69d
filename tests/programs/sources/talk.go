// A server that prints each line that it is sent (talk-go PORT), and its clients
// (talk-go ADDRESS PORT WORD [HOW]), which print what they are called. By TCP, or HOW:
// udp, by a socket that is connected; packet, by one that is not.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) == 2 {
		serve(os.Args[1])
	}
	to, word, how := net.JoinHostPort(os.Args[1], os.Args[2]), os.Args[3], "tcp"
	if len(os.Args) == 5 {
		how = os.Args[4]
	}
	if how == "packet" {
		address, err := net.ResolveUDPAddr("udp", to)
		check(err)
		socket, err := net.ListenPacket("udp", ":0")
		check(err)
		_, err = socket.WriteTo([]byte(word+"\n"), address)
		check(err)
		return
	}
	connection, err := net.Dial(how, to)
	check(err)
	fmt.Println("as", connection.LocalAddr())
	fmt.Fprintln(connection, word)
	if how == "tcp" {
		io.Copy(io.Discard, connection)
	}
}

func serve(port string) {
	listener, err := net.Listen("tcp", ":"+port)
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
