// Starts express-gateway from the configuration folder given as the first argument.
require('express-gateway')().load(process.argv[2]).run();
