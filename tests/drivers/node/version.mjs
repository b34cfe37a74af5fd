// Loads the driver, to see whether it is here and this Node can run it.
import 'mongodb';
