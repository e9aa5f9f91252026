"""What the site needs beside Sphinx: pages made from the library while it is built."""
