import java.io.*;
import java.net.*;

/**
 * A server that prints each line that it is sent (PORT), and its client (ADDRESS PORT WORD),
 * which prints what it is called.
 */
class Talk {
    public static void main(String[] words) throws IOException {
        if (words.length == 3) {
            try (var socket = new Socket(words[0], Integer.parseInt(words[1]))) {
                var host = socket.getLocalAddress().getHostAddress();
                host = host.contains(":") ? "[" + host + "]" : host;
                System.out.println("as " + host + ":" + socket.getLocalPort());
                socket.getOutputStream().write((words[2] + "\n").getBytes());
                socket.getInputStream().readAllBytes();
            }
            return;
        }
        try (var listener = new ServerSocket(Integer.parseInt(words[0]))) {
            while (true) {
                try (var socket = listener.accept()) {
                    var lines = new BufferedReader(new InputStreamReader(socket.getInputStream()));
                    System.out.println(lines.readLine());
                }
            }
        }
    }
}
