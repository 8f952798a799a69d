// Prints each datagram that it is sent.
const socket = require('dgram').createSocket('udp4');
socket.on('message', (message, from) => {
    console.log(message.toString());
    socket.send('heard\n', from.port, from.address);
});
socket.bind(Number(process.argv[2]));
