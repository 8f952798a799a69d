// Prints each path that it is asked for.
require('http').createServer((request, response) => {
    console.log(request.url);
    response.end('heard\n');
}).listen(Number(process.argv[2]));
